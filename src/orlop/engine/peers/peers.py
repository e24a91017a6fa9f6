"""Networks over several hosts: the interface for the engine."""

import asyncio
import logging
import platform
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from orlop.engine.peers import membership as steps
from orlop.engine.peers import messages, ranges
from orlop.engine.peers.channel import Channel, dial
from orlop.engine.peers.host import Host, Store
from orlop.engine.peers.links import Timing
from orlop.engine.peers.listener import Listener
from orlop.engine.peers.mesh import Mesh
from orlop.engine.peers.token import Token, parse
from orlop.engine.threads import in_thread
from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    ExhaustedError,
    NotFoundError,
    OrlopError,
    UnavailableError,
    WrongStateError,
)
from orlop.model.network import Network
from orlop.model.overlay import HostEndpoint, Member, Membership, Peering

log = logging.getLogger(__name__)

DEFAULT_PORT = 4789  # UDP of the tunnels (RFC 7348), and TCP of the engines
_FOREGROUND_S = 3.0
_LISTEN_RETRY_S = 2.0
_MOST_IN_TOKEN = 4
_OF_ONE_HOST = ("local", "parent", "com.docker.network.bridge.name")  # options of one host


class MemberState(NamedTuple):
    """A member, for users."""

    member: Member
    is_this_host: bool
    status: str  # "connected", "silent" or "gone"
    endpoints: int


class Peers:
    """The networks that this engine shares. For one event loop."""

    def __init__(self, host: Host, store: Store, timing: Timing | None = None) -> None:
        self._host, self._store = host, store
        self._timing = timing or Timing()
        self._meshes: dict[str, Mesh] = {}  # by network
        self._leaving: dict[str, Mesh] = {}  # by member
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self, networks: Mapping[str, Network]) -> None:
        """Resume this host's memberships, without waiting for other members.

        Complete the leave of networks that were half joined or half left, and of networks
        that are not among *networks* any more.
        """
        for membership in await in_thread(self._store.list):
            network = networks.get(membership.network)
            if membership.status == "member" and network is not None:
                mesh = await self._begin(network, membership)
                self._host.own(network.id, mesh.membership.owned)
            else:
                self._leave_soon(self._mesh(Network(id=membership.network, name=""), membership))

    async def close(self) -> None:
        """Close all connections; the others keep their state of this host."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for mesh in (*self._meshes.values(), *self._leaving.values()):
            await mesh.close()
        for listener in self._listeners.values():
            await listener.close()

    # Making, joining and leaving

    async def found(self, network: Network) -> None:
        """Become the first member of a new network, with all its addresses."""
        member = _member(network)
        membership = steps.founded(network, member)
        await self._listen(member.address, member.port)
        await in_thread(self._store.put, membership)
        mesh = await self._begin(network, membership)
        self._host.own(network.id, mesh.membership.owned)

    def token(self, network: str) -> str:
        """Return the secret that another host needs to join."""
        mesh = self._mesh_of(network)
        known = [mesh.me, *steps.others(mesh.membership)][:_MOST_IN_TOKEN]
        addresses = tuple((member.address, member.port) for member in known)
        return str(Token(network, mesh.secret, addresses))

    async def join(self, text: str, *, address: str = "") -> Network:
        """Join the network of the token *text*, and add it to ours.

        *address* is this host's tunnel address; by default the one that leads to the member.
        """
        token = parse(text)
        if token.network in self._meshes:
            name = self._meshes[token.network].network.name
            raise AlreadyExistsError(f"this host is a member of the network {name} already")
        config, local = await self._fetch(token, address)
        network = await self._host.check(_as_here(config.network, local))
        me = _member(network)
        await self._listen(me.address, me.port)
        membership = Membership(
            network=network.id,
            secret=token.secret.hex(),
            me=me.id,
            status="joining",
            members={me.id: me, config.member.id: config.member},
        )
        await in_thread(self._store.put, membership)
        mesh = self._mesh(network, membership)
        self._meshes[network.id] = mesh
        mesh.start()
        try:
            network = await self._settle(mesh, network)
        except BaseException:
            self._meshes.pop(network.id, None)
            self._leave_soon(mesh)
            raise
        return network

    async def _fetch(self, token: Token, local: str) -> tuple[messages.Config, str]:
        """Ask the members about the network. The first answer counts."""
        failures: list[str] = []
        for address in token.addresses:
            try:
                async with asyncio.timeout(self._timing.answer_s):
                    channel = await dial(address, token.network, token.secret, local=local)
                    return await _ask_config(channel, token), local or channel.local_address
            except TimeoutError:
                failures.append(f"{address[0]} port {address[1]}: no answer")
            except OSError as error:
                why = error.strerror or str(error)
                failures.append(f"{address[0]} port {address[1]}: {why.lower()}")
        raise UnavailableError(
            f"no member of the network can be reached: {'; '.join(failures)}",
            hint="TCP and UDP of that port have to be open between all members",
        )

    async def _settle(self, mesh: Mesh, network: Network) -> Network:
        """Get addresses, and add the network to ours."""
        try:
            async with asyncio.timeout(self._timing.answer_s):
                await mesh.addresses.connected()
        except TimeoutError:
            raise UnavailableError("the member that the token names does not answer") from None
        subnets = []
        for subnet in network.subnets:
            if not await mesh.addresses.ask(subnet.subnet):
                raise ExhaustedError(f"no member has addresses of {subnet.subnet} to give away")
            kept = [*subnet.reserved.values(), subnet.gateway]
            gateway = ranges.first_free(
                mesh.membership.owned, subnet.subnet, [address for address in kept if address]
            )
            if gateway is None:
                raise ExhaustedError(f"no address of {subnet.subnet} is left for this host")
            subnets.append(replace(subnet, gateway=gateway, ip_range=""))
        network = replace(network, subnets=tuple(subnets))
        await self._host.adopt(network)
        mesh.network = network
        await mesh.books.settle("member")
        self._host.own(network.id, mesh.membership.owned)
        mesh.again()
        return network

    async def leave(self, network: str) -> None:
        """Leave for good: its addresses go to another member, now or when one is reachable."""
        mesh = self._meshes.pop(network, None)
        if mesh is None:
            return
        task = self._leave_soon(mesh)
        await asyncio.wait({task}, timeout=_FOREGROUND_S)

    def _leave_soon(self, mesh: Mesh) -> asyncio.Task[None]:
        self._leaving[mesh.membership.me] = mesh
        task = asyncio.get_running_loop().create_task(self._leave(mesh))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _leave(self, mesh: Mesh) -> None:
        mesh.start()
        try:
            await mesh.part()
        except OrlopError as error:
            log.warning("a network is not left yet", extra={"why": str(error)})
            return
        finally:
            await mesh.close()
        self._leaving.pop(mesh.membership.me, None)
        await self._stop_listening(mesh.me)

    # While a member

    def has(self, network: str) -> bool:
        return network in self._meshes

    def put(self, network: str, endpoint: HostEndpoint) -> None:
        """Announce a local endpoint. A network that is not shared is no error."""
        if network in self._meshes:
            self._meshes[network].put(endpoint)

    def drop(self, network: str, mac: str) -> None:
        """Announce that a local endpoint is gone."""
        if network in self._meshes:
            self._meshes[network].drop(mac)

    def again(self, network: str) -> None:
        """Pass the whole state to the tunnel again."""
        if network in self._meshes:
            self._meshes[network].again()

    def peering(self, network: str) -> Peering:
        """Return the state of the other hosts and their endpoints."""
        return self._mesh_of(network).peering()

    def members(self, network: str) -> Sequence[MemberState]:
        """Return the members of the network, this host first."""
        mesh = self._mesh_of(network)
        mine = MemberState(mesh.me, True, "connected", len(mesh.view.local))  # noqa: FBT003
        return [mine, *(self._state(mesh, each) for each in steps.others(mesh.membership))]

    async def more(self, network: str, *, version: int, address: str = "") -> bool:
        """Ask the members for more addresses of IPv*version*, or for one *address*.

        Return whether there are more now; always false if the network is not shared.
        """
        mesh = self._meshes.get(network)
        if mesh is None:
            return False
        for subnet in mesh.network.subnets:
            if (":" in subnet.subnet) == (version == 6) and await mesh.addresses.ask(
                subnet.subnet, address
            ):
                return True
        return False

    def _state(self, mesh: Mesh, member: Member) -> MemberState:
        if member.id in mesh.links:
            status = "connected"
        else:
            status = "gone" if mesh.is_expired(member.id) else "silent"
        return MemberState(member, False, status, mesh.view.count(member.id))  # noqa: FBT003

    # Internal

    def _mesh_of(self, network: str) -> Mesh:
        mesh = self._meshes.get(network)
        if mesh is None:
            raise NotFoundError(
                "the network is not shared with other hosts",
                hint="make one with orlop network create --driver vxlan",
            )
        return mesh

    def _mesh(self, network: Network, membership: Membership) -> Mesh:
        return Mesh(network, membership, host=self._host, store=self._store, timing=self._timing)

    async def _begin(self, network: Network, membership: Membership) -> Mesh:
        local = network.options.get("local", "")
        me = membership.members[membership.me]
        if local and local != me.address:
            membership = steps.moved(membership, local, me.port)
            await in_thread(self._store.put, membership)
            me = membership.members[membership.me]
        mesh = self._mesh(network, membership)
        self._meshes[network.id] = mesh
        mesh.start()
        try:
            await self._listen(me.address, me.port)
        except (OSError, OrlopError) as error:  # at boot the address may come later
            log.warning("cannot listen for peers yet", extra={"why": str(error)})
            task = asyncio.get_running_loop().create_task(self._listen_later(mesh))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return mesh

    async def _listen_later(self, mesh: Mesh) -> None:
        while self._meshes.get(mesh.network.id) is mesh:
            await asyncio.sleep(_LISTEN_RETRY_S)
            try:
                await self._listen(mesh.me.address, mesh.me.port)
            except (OSError, OrlopError):
                continue
            return

    async def _listen(self, address: str, port: int) -> None:
        if (address, port) in self._listeners:
            return
        listener = Listener(self._secret, self._accept)
        self._listeners[address, port] = listener
        try:
            await listener.open(address, port)
        except OSError as error:
            del self._listeners[address, port]
            raise WrongStateError(
                f"cannot listen on {address}: {(error.strerror or str(error)).lower()}",
                hint="choose an address of this host with --opt local=ADDRESS",
            ) from error
        except BaseException:
            del self._listeners[address, port]
            raise

    async def _stop_listening(self, me: Member) -> None:
        address = (me.address, me.port)
        if all((mesh.me.address, mesh.me.port) != address for mesh in self._meshes.values()):
            listener = self._listeners.pop(address, None)
            if listener is not None:
                await listener.close()

    def _secret(self, network: str) -> bytes | None:
        mesh = self._meshes.get(network)
        return mesh.secret if mesh is not None else None

    async def _accept(self, network: str, channel: Channel) -> None:
        mesh = self._meshes.get(network)
        if mesh is None or mesh.membership.status != "member":
            channel.close()
            return
        await mesh.serve(channel)


async def _ask_config(channel: Channel, token: Token) -> messages.Config:
    channel.send(messages.Fetch())
    try:
        config = await channel.receive()
    finally:
        channel.close()
    if not isinstance(config, messages.Config) or config.network.id != token.network:
        raise CorruptError("the member answers with another network than the token is of")
    if config.network.driver != "vxlan":
        raise CorruptError("the member answers with a network that cannot be shared")
    return config


def _member(network: Network) -> Member:
    return Member(
        id=steps.new_id(),
        address=network.options["local"],
        port=int(network.options.get("port", DEFAULT_PORT)),
        name=platform.node()[:255],
    )


def _as_here(network: Network, local: str) -> Network:
    """Return another host's network without the options of that host."""
    options = {k: v for k, v in network.options.items() if k not in _OF_ONE_HOST}
    return replace(network, options={**options, "local": local})
