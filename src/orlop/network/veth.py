"""A veth pair between a bridge and a container's namespace. For every driver that has a bridge."""

from contextlib import ExitStack, suppress
from typing import NamedTuple

from orlop.errors import AlreadyExistsError
from orlop.kernel.netlink import kinds, links
from orlop.kernel.netlink.links import Port, Settings
from orlop.kernel.netlink.wire import Request
from orlop.model.network import Endpoint
from orlop.network import ownership, sysctl
from orlop.network.inside import Plan
from orlop.network.namespace import Home
from orlop.network.refusal import refusals


class Socket(NamedTuple):
    """Where a pair is plugged in."""

    bridge: int  # its index
    mtu: int
    port: Port = Port()


def attach(home: Home, engine: str, socket: Socket, endpoint: Endpoint, namespace: int) -> None:
    """Make the pair, its other end set up in the *namespace*, and tell the neighbours.

    The other end is made in the namespace, not moved. A pair that is there from an
    earlier call is put right.
    """
    host = ownership.veth_name(endpoint)
    with refusals(f"attach {endpoint.interface}", lacking="veth"), ExitStack() as undo:
        plan = Plan(endpoint)
        if not _is_there(home, engine, endpoint, namespace):
            undo.callback(remove, home, host)
            _make(home, engine, socket, endpoint, namespace)
        else:
            settings = Settings(mtu=endpoint.mtu or socket.mtu, master=socket.bridge, up=True)
            home.netlink.ask(links.change(host, settings), *_port(home, host, socket.port))
        _silence(host)
        interface = plan.apply(home, namespace)
        with interface.netlink:
            home.netlink.ask(links.look(host), links.look(socket.bridge))  # both carry from here
            interface.announce()
        undo.pop_all()


def detach(home: Home, engine: str, endpoint: Endpoint) -> None:
    """Remove the pair, if it is the endpoint's."""
    link = links.find(home.netlink, ownership.veth_name(endpoint))
    if link is not None and ownership.owned_by(engine, link.alias) == endpoint.container:
        with refusals(f"detach {endpoint.interface}"):
            remove(home, link.ifindex)


def remove(home: Home, of: int | str) -> None:
    """Remove an interface; one that is gone is no error."""
    with suppress(OSError):
        home.netlink.ask(links.remove(of))


def _make(home: Home, engine: str, socket: Socket, endpoint: Endpoint, namespace: int) -> None:
    host, mtu = ownership.veth_name(endpoint), endpoint.mtu or socket.mtu
    peer = Settings(name=endpoint.interface, namespace=namespace, mac=endpoint.mac, mtu=mtu)
    settings = Settings(name=host, mtu=mtu, master=socket.bridge, up=True)
    try:
        home.netlink.ask(
            links.make("veth", kinds.veth(peer), settings),
            links.change(host, Settings(alias=ownership.alias(engine, endpoint.container))),
            *_port(home, host, socket.port),
        )
    except FileExistsError as error:
        raise AlreadyExistsError(
            f"the container has a network interface {endpoint.interface} already"
        ) from error


def _port(home: Home, host: str, port: Port) -> list[Request]:
    if not any(value is not None for value in port):
        return []
    link = links.find(home.netlink, host)
    return [] if link is None else [links.change_port(link.ifindex, port, host)]


def _is_there(home: Home, engine: str, endpoint: Endpoint, namespace: int) -> bool:
    """Return whether the pair is there as it should; one that has lost its end is removed.

    AlreadyExistsError where the name on the host is another's.
    """
    host = ownership.veth_name(endpoint)
    link = links.find(home.netlink, host)
    if link is None:
        return False
    if ownership.owned_by(engine, link.alias) != endpoint.container:
        raise AlreadyExistsError(f"the host has a network interface {host} already")
    with home.open_netlink(namespace) as there:
        other = links.find(there, endpoint.interface)
    if (
        other is not None
        and other.kind == "veth"
        and (other.link, other.ifindex)
        == (
            link.ifindex,
            link.link,
        )
    ):
        return True
    remove(home, link.ifindex)
    return False


def _silence(host: str) -> None:
    """The bridge speaks for its ports: they have no IPv6 of their own, and hear no router."""
    with suppress(FileNotFoundError):
        sysctl.write(f"ipv6/conf/{host}/disable_ipv6", "1")
