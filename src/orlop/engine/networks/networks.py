"""Networks: the use cases, in one place to call.

Light to import, for an engine whose containers have no network needs none of the rest.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from orlop.engine.containers.bundle import Bundles
from orlop.engine.context import Context
from orlop.engine.networks import modes
from orlop.engine.requests import NO_FILTERS, Filters, NetworkRequest
from orlop.errors import OrlopError
from orlop.model.container import Container, ContainerOptions
from orlop.model.network import Endpoint, EndpointOptions, Network

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from orlop.engine.networks.desk import Desk
    from orlop.engine.networks.lending import Lent
    from orlop.engine.peers.peers import MemberState
    from orlop.kernel.netlink.links import Counters


class Networks:
    """*ref* is a network's name, id, or a start of an id that only one has.

    Every method raises NotFoundError "network … not found" where there is none.
    """

    def __init__(self, context: Context, bundles: Bundles) -> None:
        self._context = context
        self._bundles = bundles
        self.settled = asyncio.Event()  # what an engine before us left is put right

    @cached_property
    def _desk(self) -> "Desk":
        from orlop.engine.networks.desk import Desk

        return Desk(self._context, self._bundles)

    def list(self) -> "Sequence[Network]":
        """Return every network, with bridge, host and none."""
        return self._desk.directory.all()

    def find(self, ref: str) -> Network:
        """Return the network."""
        return self._desk.directory.find(ref)

    def attached(self, network: Network) -> "Sequence[tuple[Container, Endpoint]]":
        """Return the running containers on it, each with its endpoint there."""
        return self._desk.attached(network)

    async def create(self, request: NetworkRequest) -> "tuple[Network, Sequence[str]]":
        """Make a network; returns it with warnings."""
        return await self._desk.create(request)

    async def remove(self, ref: str) -> None:
        """Remove a network on which no container is."""
        await self._desk.remove(self.find(ref))

    async def prune(self, filters: Filters = NO_FILTERS) -> "Sequence[str]":
        """Remove the networks on which no container is; returns their names."""
        return await self._desk.prune(filters)

    async def connect(self, ref: str, container_ref: str, options: EndpointOptions) -> None:
        """Put a container on the network: now if it runs, and at each of its starts."""
        await self._desk.connect(self.find(ref), self._context.records.find(container_ref), options)

    async def disconnect(self, ref: str, container_ref: str) -> None:
        """Take a container off the network."""
        await self._desk.disconnect(self.find(ref), container_ref)

    # Of several hosts

    async def join(self, token: str, *, address: str = "") -> Network:
        """Have a network of other hosts here too; *address* is this host's for its packets."""
        return await self._desk.join(token, address)

    def token(self, ref: str) -> str:
        """Return what another host needs to join; it is a secret."""
        return self._desk.attachments.overlay.token(self.find(ref))

    def members(self, ref: str) -> "Sequence[MemberState]":
        """Return the hosts of a network, this one first."""
        return self._desk.attachments.overlay.members(self.find(ref))

    # For containers

    def resolve(self, options: ContainerOptions) -> ContainerOptions:
        """Return a request's options with every network that the container is to be on, by name.

        InvalidArgumentError, NotFoundError if it cannot be on them.
        """
        resolved = modes.resolved(options)
        modes.check_egress(resolved)
        return self._desk.check(resolved) if resolved.networks else resolved

    @contextlib.asynccontextmanager
    async def joined(
        self, container: Container
    ) -> AsyncIterator[tuple[Container, Mapping[str, int]]]:
        """Give the container with its endpoints, and the namespaces to start it in, by type.

        Where the body raises, it is as if nothing had been.
        """
        if not container.options.networks:
            yield container, {}
            return
        async with self._desk.attachments.attached(container) as (attached, namespaces):
            yield attached, namespaces

    @contextlib.asynccontextmanager
    async def lent(
        self, container: Container, sysctls: Mapping[str, str], *, again: bool
    ) -> "AsyncIterator[Lent]":
        """Give what a new sandbox is started with; as joined(), but for its record.

        That is added here. *sysctls* are its namespace's, which may be used *again* after it.
        """
        async with self._desk.lending.lent(container, sysctls, again=again) as lent:
            yield lent

    def returned(self, container: Container, *, as_it_was: bool) -> None:
        """Take back what a sandbox had that has ended; *as_it_was*: to be used again."""
        if "_desk" in self.__dict__:
            self._desk.lending.ended(container, as_it_was=as_it_was)

    def distrust(self) -> None:
        """Use nothing again that sandboxes have now."""
        if "_desk" in self.__dict__:
            self._desk.lending.distrust()

    async def counters(self, container: Container) -> "Mapping[str, Counters]":
        """Return what went through its interfaces, by their names inside."""
        if not container.endpoints:
            return {}
        return await self._desk.attachments.counters(container)

    async def traffic(self, containers: "Sequence[Container]") -> "Mapping[str, tuple[int, int]]":
        """Return how many bytes each has received and sent, by its id, of those on networks."""
        attached = [container for container in containers if container.endpoints]
        if not attached:
            return {}
        return await self._desk.attachments.traffic(attached)

    def ended(self, container: Container) -> None:
        """Give back what a container had that has ended; *container* as it was."""
        if container.endpoints:
            self._desk.attachments.ended(container)

    def renamed(self, container: Container) -> None:
        """Let others find a container by its new name."""
        if container.endpoints:
            self._desk.attachments.renamed(container)

    async def relinked(self, container: Container) -> None:
        """Write the names of linked containers into a running container's files again."""
        if container.endpoints:
            await self._desk.attachments.relinked(container)

    async def reconcile(self) -> None:
        """Put right what an engine before us left. Run when all records are true."""
        is_marked = self._context.settings.network_mark.exists()
        if is_marked or self._context.metadata.memberships.list():
            try:
                await self._desk.reconcile()
            except (OSError, OrlopError):  # of an engine that does not start nobody has more
                log.exception("networks cannot be put right")
        self.settled.set()

    async def close(self) -> None:
        """Let go; what no running container needs is removed."""
        if "_desk" in self.__dict__:
            await self._desk.close()
