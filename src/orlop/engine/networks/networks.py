"""Networks: the use cases, in one place to call."""

from collections.abc import Sequence

from orlop.engine.context import Context
from orlop.engine.requests import NO_FILTERS, Filters, NetworkRequest
from orlop.model.container import Container
from orlop.model.network import Endpoint, EndpointOptions, Network


class Networks:
    """*ref* is a network's name, id, or a start of an id that only one has.

    Every method raises NotFoundError "network … not found" where there is none.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def list(self) -> Sequence[Network]:
        """Return every network, with bridge, host and none."""
        raise NotImplementedError

    def find(self, ref: str) -> Network:
        """Return the network."""
        raise NotImplementedError

    def attached(self, network: Network) -> "list[tuple[Container, Endpoint]]":
        """Return the running containers on it, each with its endpoint there."""
        raise NotImplementedError

    async def create(self, request: NetworkRequest) -> tuple[Network, Sequence[str]]:
        """Make a network; returns it with warnings."""
        raise NotImplementedError

    async def remove(self, ref: str) -> None:
        """Remove a network on which no container is."""
        raise NotImplementedError

    async def prune(self, filters: Filters = NO_FILTERS) -> "list[str]":
        """Remove the networks that no container uses; returns their names."""
        raise NotImplementedError

    async def connect(self, ref: str, container_ref: str, options: EndpointOptions) -> None:
        """Put a container on the network: now if it runs, and at each of its starts."""
        raise NotImplementedError

    async def disconnect(self, ref: str, container_ref: str, *, force: bool = False) -> None:
        """Take a container off the network."""
        raise NotImplementedError
