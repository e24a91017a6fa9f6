"""What a container has of networks, as the network thread is told."""

from typing import NamedTuple

from orlop.model.network import Endpoint, Network, PortMapping


class Place(NamedTuple):
    """An endpoint, and the network that it is on."""

    network: Network
    endpoint: Endpoint

    @property
    def addresses(self) -> list[str]:
        return [text.partition("/")[0] for text in self.endpoint.addresses]

    def is_at(self, network_id: str, address: str) -> bool:
        """Whether it has this address of the network."""
        return self.network.id == network_id and address in self.addresses


class Attachment(NamedTuple):
    """All of one container."""

    container: str  # its id
    places: tuple[Place, ...]
    ports: tuple[PortMapping, ...] = ()
    egress: tuple[str, ...] | None = None  # all that it may send to: model/egress.py
