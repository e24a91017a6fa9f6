"""Make, remove and check an attachment with one of our drivers."""

from __future__ import annotations

import os
from contextlib import ExitStack

from orlop.errors import InvalidArgumentError, OrlopError, UnsupportedError
from orlop.kernel.netlink import addresses, links
from orlop.kernel.netlink.links import Port
from orlop.network import bridge_device, ownership
from orlop.network.cni import failure, result
from orlop.network.cni.failure import RefusedError
from orlop.network.cni.plugin import ipam
from orlop.network.cni.plugin.leases import Locked
from orlop.network.cni.plugin.settings import Settings, settings
from orlop.network.cni.plugin.values import Endpoint, Network, digest
from orlop.network.cni.result import Interface, Result
from orlop.network.namespace import Home

_FOLDER = "/run/orlop-cni"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.network.cni.plugin.request import Request
    from orlop.network.interface import Driver


def _driver(home: Home, request: Request, wanted: Settings) -> Driver:
    """Return the driver of a network. The network is its "engine", so it leaves others alone."""
    engine = digest(request.network)[:8]
    if wanted.driver == "macvlan":
        from orlop.network.macvlan import Macvlan

        return Macvlan(home, engine)
    from orlop.network.bridge import Bridge

    return Bridge(home, engine)


def add(request: Request) -> Result:
    """Connect the container's namespace to the network; completely, or not at all."""
    wanted = settings(request)
    if request.previous() is not None:
        raise InvalidArgumentError("orlop-cni makes an interface, and is the first of its chain")
    namespace = _open(request.namespace)
    with ExitStack() as undo:
        undo.callback(os.close, namespace)
        home = undo.enter_context(Home())
        _refuse_what_is_there(home, namespace, request)
        with ExitStack() as failed:
            given = ipam.add(request)
            failed.callback(ipam.delete, request)
            network, endpoint = wanted.plan(home, request, given)
            driver = _driver(home, request, wanted)
            with Locked(_FOLDER):  # a driver must be the only one on its host
                if not _is_made(home, wanted, network):
                    driver.create(network.as_model())
            driver.attach(network.as_model(), endpoint.as_model(), namespace)
            failed.callback(driver.detach, network.as_model(), endpoint.as_model(), namespace)
            told = _result(home, namespace, wanted, endpoint, request, given)
            if wanted.hairpin:
                port = links.change_port(
                    ownership.veth_name(endpoint.as_model()), Port(hairpin=True)
                )
                home.netlink.ask(port)
            if wanted.masquerade:
                from orlop.network.cni.plugin import masquerade  # only if nftables is needed

                masquerade.add(_owner(request), endpoint.addresses)
            failed.pop_all()
    return told


def _is_made(home: Home, wanted: Settings, network: Network) -> bool:
    """Whether the bridge exists with its addresses; adding one again takes 20 ms."""
    bridge = links.find(home.netlink, wanted.bridge) if wanted.driver == "bridge" else None
    if bridge is None or not bridge.up:
        return False
    have = {one.address for one in addresses.each(home.netlink, bridge.ifindex)}
    return have.issuperset(bridge_device.gateways(network.as_model()))


def delete(request: Request) -> None:
    """Disconnect the namespace and release its addresses; what is gone already is no error."""
    wanted = settings(request, lenient=True)
    with ExitStack() as undo:
        home = undo.enter_context(Home())
        try:
            namespace = _open(request.namespace) if request.namespace else None
        except OrlopError:
            namespace = None
        if namespace is not None:
            undo.callback(os.close, namespace)
        network, endpoint = wanted.plan(home, request, Result())
        # A pair is found by its end on the host, so it needs no namespace.
        at = home.fileno() if namespace is None and wanted.driver == "bridge" else namespace
        _driver(home, request, wanted).detach(network.as_model(), endpoint.as_model(), at)
    if wanted.masquerade:
        from orlop.network.cni.plugin import masquerade

        told = _previous_addresses(request)
        masquerade.remove(_owner(request), told, ipam.leased(request, told))
    ipam.delete(request)


def check(request: Request) -> None:
    """Raise an error if anything differs from the state after ADD."""
    wanted = settings(request)
    previous = request.previous()
    if previous is None:
        raise RefusedError(failure.INVALID_CONFIGURATION, "CHECK needs prevResult")
    ipam.check(request)
    namespace = _open(request.namespace)
    with ExitStack() as undo:
        undo.callback(os.close, namespace)
        home = undo.enter_context(Home())
        there = undo.enter_context(home.open_netlink(namespace))
        _, endpoint = wanted.plan(home, request, previous)
        link = links.find(there, request.interface)
        if link is None or not link.up:
            raise OrlopError(f"interface {request.interface} of the container is gone or down")
        have = {one.address for one in addresses.each(there, link.ifindex)}
        for ip in previous.ips:
            if _is_of(previous, ip.interface, request.interface) and ip.address not in have:
                raise OrlopError(f"interface {request.interface} has not {ip.address}")
        if wanted.driver == "bridge":
            _check_port(home, wanted, endpoint)
    _check_masquerade(request, wanted, endpoint)


def _is_of(told: Result, index: int | None, interface: str) -> bool:
    """Whether an address with that interface index is on the container's *interface*."""
    one = told.interfaces[index] if index is not None else Interface("")
    return bool(one.sandbox) and one.name == interface


def _check_port(home: Home, wanted: Settings, endpoint: Endpoint) -> None:
    name = ownership.veth_name(endpoint.as_model())
    port, bridge = links.find(home.netlink, name), links.find(home.netlink, wanted.bridge)
    if bridge is None or not bridge.up:
        raise OrlopError(f"bridge {wanted.bridge} is gone or down")
    if port is None or not port.up or port.master != bridge.ifindex:
        raise OrlopError(f"interface {name} is no port of bridge {wanted.bridge} that is up")


def _check_masquerade(request: Request, wanted: Settings, endpoint: Endpoint) -> None:
    if wanted.masquerade:
        from orlop.network.cni.plugin import masquerade

        for version in {result.family(address) for address in endpoint.addresses}:
            if _owner(request) not in masquerade.owners(version):
                raise OrlopError(f"IPv{version} of {request.container} is not masqueraded")


def collect(request: Request) -> None:
    """Remove everything of this network that no valid attachment needs."""
    wanted = settings(request, lenient=True)
    valid = request.valid()
    with Home() as home:
        network, _ = wanted.plan(home, request, Result())
        endpoints = [
            wanted.endpoint(request._replace(container=container, interface=interface), Result())
            for container, interface in valid
        ]
        driver = _driver(home, request, wanted)
        known = [endpoint.as_model() for endpoint in endpoints]
        for name in driver.strays([network.as_model()], known):
            links_left = links.find(home.netlink, name)
            if links_left is not None:
                home.netlink.ask(links.remove(links_left.ifindex))
    if wanted.masquerade:
        from orlop.network.cni.plugin import masquerade

        keep = {f"{request.network}@{container}@{interface}" for container, interface in valid}
        ours = f"{request.network}@"
        masquerade.collect(lambda other: other.startswith(ours) and other not in keep)
    ipam.collect(request)


def status(request: Request) -> None:
    """Raise the error that an ADD would have now."""
    try:
        settings(request)
        with Home():
            pass
    except UnsupportedError as error:
        raise RefusedError(failure.NOT_AVAILABLE, str(error)) from error
    ipam.status(request)


def _open(path: str) -> int:
    """Return a descriptor of a network namespace; RefusedError if it is not one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        text = f"there is no network namespace {path}: {os.strerror(error.errno or 0)}"
        raise RefusedError(failure.UNKNOWN_CONTAINER, text) from error
    from orlop.kernel.namespaces import Namespace, kind_of

    if kind_of(fd) is not Namespace.NET:
        os.close(fd)
        raise RefusedError(failure.UNKNOWN_CONTAINER, f"{path} is no network namespace")
    return fd


def _refuse_what_is_there(home: Home, namespace: int, request: Request) -> None:
    if os.fstat(namespace).st_ino == os.fstat(home.fileno()).st_ino:
        raise InvalidArgumentError(f"{request.namespace} is the host's network namespace")
    with home.open_netlink(namespace) as there:
        if links.find(there, request.interface) is not None:
            raise OrlopError(f"the container has an interface {request.interface} already")


def _previous_addresses(request: Request) -> list[str]:
    """Return the interface addresses of an attachment, as far as they are known."""
    told = request.previous() or Result()
    return [ip.address for ip in told.ips if _is_of(told, ip.interface, request.interface)]


def _owner(request: Request) -> str:
    return f"{request.network}@{request.container}@{request.interface}"


def _result(
    home: Home,
    namespace: int,
    wanted: Settings,
    endpoint: Endpoint,
    request: Request,
    given: Result,
) -> Result:
    """Return the current state from the kernel: the bridge, both ends of the pair."""
    found: list[Interface] = []
    if wanted.driver == "bridge":
        for name in (wanted.bridge, ownership.veth_name(endpoint.as_model())):
            link = links.find(home.netlink, name)
            if link is not None:
                found.append(Interface(link.name, link.mac, link.mtu))
    with home.open_netlink(namespace) as there:
        link = links.find(there, request.interface)
    if link is None:
        raise OrlopError(f"interface {request.interface} was removed while it was made")
    found.append(Interface(link.name, link.mac, link.mtu, request.namespace))
    ips = tuple(ip._replace(interface=len(found) - 1) for ip in given.ips)
    return Result(tuple(found), ips, wanted.routes(given), wanted.dns(given))
