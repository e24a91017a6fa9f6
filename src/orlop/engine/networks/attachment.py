"""A container's endpoints, in the form for the network thread."""

from typing import NamedTuple

from orlop.model.network import Endpoint, Network, PortMapping


class Place(NamedTuple):
    """An endpoint with its network."""

    network: Network
    endpoint: Endpoint

    @property
    def addresses(self) -> list[str]:
        return [text.partition("/")[0] for text in self.endpoint.addresses]

    def is_at(self, network_id: str, address: str) -> bool:
        """Whether it has this address in the network."""
        return self.network.id == network_id and address in self.addresses


class Attachment(NamedTuple):
    """All endpoints of one container."""

    container: str  # its id
    places: tuple[Place, ...]
    ports: tuple[PortMapping, ...] = ()
    egress: tuple[str, ...] | None = None  # the only allowed destinations: model/egress.py
