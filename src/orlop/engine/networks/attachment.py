"""What a container has of networks, as the network thread is told."""

from typing import NamedTuple

from orlop.model.network import Endpoint, Network, PortMapping


class Place(NamedTuple):
    """An endpoint, and the network that it is on."""

    network: Network
    endpoint: Endpoint


class Attachment(NamedTuple):
    """All of one container."""

    container: str  # its id
    places: tuple[Place, ...]
    ports: tuple[PortMapping, ...] = ()
    egress: tuple[str, ...] | None = None  # all that it may send to: model/egress.py
