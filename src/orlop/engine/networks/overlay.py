"""Networks shared with other hosts: the link between the peers and the rest of the engine."""

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from orlop.engine.context import Context
from orlop.engine.networks import modes
from orlop.engine.networks.attachment import Place
from orlop.engine.networks.directory import Directory
from orlop.engine.networks.host import Host
from orlop.engine.networks.leases import Leases
from orlop.engine.networks.naming import Naming
from orlop.engine.networks.thread import NetworkThread
from orlop.errors import InvalidArgumentError
from orlop.model.container import Container
from orlop.model.network import Endpoint, EndpointOptions, Network
from orlop.model.overlay import HostEndpoint, Peering
from orlop.network import ipam

if TYPE_CHECKING:
    from orlop.engine.peers.peers import MemberState, Peers

DRIVER = "vxlan"


class Overlay:
    """The engine's side of the peers; an engine without such networks does not load them."""

    def __init__(
        self,
        context: Context,
        directory: Directory,
        leases: Leases,
        thread: NetworkThread,
        naming: Naming,
    ) -> None:
        self._context = context
        self._directory = directory
        self._leases = leases
        self._thread = thread
        self._naming = naming

    @cached_property
    def peers(self) -> "Peers":
        from orlop.engine.peers.peers import Peers

        return Peers(self, self._context.metadata.memberships)

    async def open(self, running: Iterable[Container]) -> None:
        """Resume this host's memberships."""
        memberships = self._context.metadata.memberships.list()
        for membership in memberships:
            network = self._directory.get(membership.network)
            if membership.status == "joining" and network is not None:
                self._directory.remove(network)  # killed just before the join was complete
        shared = [network for network in self._directory.all() if network.driver == DRIVER]
        if not memberships and not shared:
            return
        await self.peers.open({network.id: network for network in shared})
        known = {membership.network for membership in memberships}
        for network in shared:
            if network.id not in known:  # killed during its creation
                await self.found(network)
            self._put_bridge(network)
        for container in running:
            self.put(container, container.endpoints)

    async def close(self) -> None:
        if "peers" in self.__dict__:
            await self.peers.close()

    # Requests

    async def found(self, network: Network) -> None:
        """Let others join a new *network*; if that fails, the network is not created."""
        if network.driver != DRIVER:
            return
        try:
            await self.peers.found(network)
        except BaseException:
            self._directory.remove(network)
            raise
        self._put_bridge(network)

    async def join(self, token: str, address: str) -> Network:
        network = await self.peers.join(token, address=address)
        self._put_bridge(network)
        return network

    async def leave(self, network: Network) -> None:
        """Leave it for good; a network that is not shared is no error."""
        if network.driver == DRIVER:
            self._naming.elsewhere(network, ())
            await self.peers.leave(network.id)

    def token(self, network: Network) -> str:
        return self.peers.token(network.id)

    def members(self, network: Network) -> "Sequence[MemberState]":
        return self.peers.members(network.id)

    # Containers

    async def prepare(self, network: Network, wanted: EndpointOptions) -> None:
        """Get addresses for one more endpoint from other hosts, if we have none left."""
        if network.driver != DRIVER:
            return
        for version, address in ((4, wanted.ipv4), (6, wanted.ipv6)):
            if not self._leases.can_take(network, version, address):
                await self.peers.more(network.id, version=version, address=address)

    def put(self, container: Container, endpoints: Iterable[Endpoint]) -> None:
        """Announce endpoints here to the other hosts."""
        for network, endpoint in self._shared(endpoints):
            names = (*endpoint.aliases, container.options.hostname)
            told = HostEndpoint(
                mac=endpoint.mac,
                addresses=tuple(one.partition("/")[0] for one in endpoint.addresses),
                container=container.id[:12],
                name=container.name,
                aliases=tuple(name for name in names if name),
            )
            self.peers.put(network.id, told)

    def drop(self, endpoints: Iterable[Endpoint]) -> None:
        """Announce to the other hosts that endpoints are gone."""
        for network, endpoint in self._shared(endpoints):
            self.peers.drop(network.id, endpoint.mac)

    def _shared(self, endpoints: Iterable[Endpoint]) -> Iterable[Place]:
        for endpoint in endpoints:
            network = self._directory.get(endpoint.network)
            if network is not None and network.driver == DRIVER:
                yield Place(network, endpoint)

    def _put_bridge(self, network: Network) -> None:
        from orlop.network.vxlan import bridge_mac

        addresses = tuple(subnet.gateway for subnet in network.subnets if subnet.gateway)
        told = HostEndpoint(mac=bridge_mac(network), addresses=addresses)
        self.peers.put(network.id, told)

    # Callbacks of the peers (engine/peers/host.py)

    def taken(self, network: str) -> Collection[str]:
        known = self._directory.get(network)
        return self._leases.taken(known) if known is not None else ()

    def own(self, network: str, owned: tuple[str, ...]) -> None:
        self._leases.own(network, owned)

    async def apply(self, network: str, peering: Peering) -> None:
        known = self._directory.get(network)
        if known is not None:
            self._naming.elsewhere(known, peering.neighbours)
            await self._thread.call(Host.know, known, peering)

    async def check(self, network: Network) -> Network:
        self._check_free(network)
        checked: Network = await self._thread.call(Host.check, network)
        return checked

    async def adopt(self, network: Network) -> None:
        self._check_free(network)
        self._directory.put(network)

    def _check_free(self, network: Network) -> None:
        """Raise the reason why another host's network cannot be used here."""
        if not modes.is_name(network.name):
            raise InvalidArgumentError(f"invalid network name {network.name[:200]!r}")
        self._directory.check_name(network.name)
        for subnet in network.subnets:
            ipam.check_free(subnet.subnet, self._directory.subnets())
