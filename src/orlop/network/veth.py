"""A veth pair between a bridge and a container's namespace. For every driver that has a bridge."""

from __future__ import annotations

from contextlib import ExitStack, suppress

from orlop.errors import AlreadyExistsError
from orlop.kernel.netlink import kinds, links
from orlop.kernel.netlink.links import Port, Settings
from orlop.kernel.netlink.wire import Request
from orlop.model.light import NamedTuple
from orlop.network import ownership
from orlop.network.inside import Plan
from orlop.network.namespace import Home
from orlop.network.refusal import refusals

TYPE_CHECKING = False  # programs that start often pass plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Endpoint


class Socket(NamedTuple):
    """Where to connect a pair."""

    bridge: int  # its index
    mtu: int
    port: Port = Port()


def attach(home: Home, engine: str, socket: Socket, endpoint: Endpoint, namespace: int) -> None:
    """Make the pair, set up its other end in the *namespace*, and announce it.

    The other end is made in the namespace, not moved. An existing pair from an earlier
    call is repaired.
    """
    host = ownership.veth_name(endpoint)
    with refusals(f"attach {endpoint.interface}", lacking="veth"), ExitStack() as undo:
        plan = Plan(endpoint)
        made = _make(home, engine, socket, endpoint, namespace)
        if made:
            undo.callback(remove, home, host)
        home.silence(host)  # a bridge port needs no IPv6
        interface = plan.apply(home, namespace, again=not made)
        undo.callback(interface.netlink.close)
        home.netlink.ask(links.look(host), links.look(socket.bridge))  # the carrier is on now
        undo.pop_all()
    home.soon(interface.announce)


def detach(home: Home, engine: str, endpoint: Endpoint) -> None:
    """Remove the pair, if it belongs to the endpoint."""
    with refusals(f"detach {endpoint.interface}"):
        link = links.find(home.netlink, ownership.veth_name(endpoint))
        if link is not None and link.kind == "veth" and _may_be_of(engine, endpoint, link):
            home.netlink.ask(links.remove(link.ifindex))


def remove(home: Home, of: int | str) -> None:
    """Remove an interface; a missing one is no error."""
    with suppress(OSError):
        home.netlink.ask(links.remove(of))


def _make(home: Home, engine: str, socket: Socket, endpoint: Endpoint, namespace: int) -> bool:
    """Make the pair, all or nothing; False if it exists already and is right."""
    host, mtu = ownership.veth_name(endpoint), endpoint.mtu or socket.mtu
    peer = Settings(
        name=endpoint.interface, namespace=namespace, mac=endpoint.mac, mtu=mtu, queues=1
    )
    settings = Settings(name=host, mtu=mtu, master=socket.bridge, up=True, queues=1)
    request = links.make("veth", kinds.veth(peer), settings)
    try:
        try:
            home.netlink.ask(request)
        except FileExistsError:
            if _is_there(home, engine, endpoint, namespace):
                alias = ownership.alias(engine, endpoint.container)
                settings = Settings(mtu=mtu, master=socket.bridge, up=True, alias=alias)
                home.netlink.ask(links.change(host, settings), *_port(socket, host))
                return False
            home.netlink.ask(request)
        named = Settings(alias=ownership.alias(engine, endpoint.container))
        home.netlink.ask(links.change(host, named), *_port(socket, host))
    except AlreadyExistsError:
        raise
    except BaseException:
        remove(home, host)
        raise
    return True


def _port(socket: Socket, host: str) -> list[Request]:
    known = any(value is not None for value in socket.port)
    return [links.change_port(host, socket.port)] if known else []


def _is_there(home: Home, engine: str, endpoint: Endpoint, namespace: int) -> bool:
    """Whether the pair exists and is right; one that has lost its other end is removed.

    AlreadyExistsError if another interface has the name on the host, or inside.
    """
    host = ownership.veth_name(endpoint)
    link = links.find(home.netlink, host)
    is_ours = link is None or _is_of(engine, endpoint, link)
    with home.open_netlink(namespace) as there:
        other = links.find(there, endpoint.interface)
    may_be_ours = link is not None and _may_be_of(engine, endpoint, link)
    if link is not None and may_be_ours and other is not None and _is_pair(link, other):
        return True
    if not is_ours:
        raise AlreadyExistsError(f"the host has a network interface {host} already")
    if other is not None:
        raise AlreadyExistsError(
            f"the container has a network interface {endpoint.interface} already"
        )
    remove(home, host)
    return False


def _is_of(engine: str, endpoint: Endpoint, link: links.Link) -> bool:
    return ownership.owned_by(engine, link.alias) == endpoint.container


def _may_be_of(engine: str, endpoint: Endpoint, link: links.Link) -> bool:
    """Whether the pair is the endpoint's, or its maker was killed before it could mark it."""
    return not link.alias or _is_of(engine, endpoint, link)


def _is_pair(one: links.Link, other: links.Link) -> bool:
    kinds_fit = one.kind == other.kind == "veth"
    return kinds_fit and (one.link, one.ifindex) == (other.ifindex, other.link)
