"""Results of ADD: read in any version, written in the requested one.

    0.3.0 – 0.4.0   an address has "version": "4" or "6"
    1.0.0           it does not
    1.1.0           interfaces have mtu, socketPath, pciID; routes have mtu, advmss, priority,
                    table, scope

Results come from other programs, so everything is checked.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

from orlop.errors import CorruptError
from orlop.model.light import NamedTuple
from orlop.network.cni import versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MOST_ITEMS = 1000


class Interface(NamedTuple):
    """An interface of an attachment; one with a sandbox is inside the container."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""


class Address(NamedTuple):
    """An address with its prefix ("10.0.0.2/24"), and the index of its interface."""

    address: str
    gateway: str = ""
    interface: int | None = None


class Route(NamedTuple):
    """A route; None means not given."""

    dst: str
    gw: str = ""
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


class Dns(NamedTuple):
    """A network's name servers and search domains."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Result(NamedTuple):
    """The result of an attachment: interfaces, addresses, routes, name servers."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()


_NEW_IN_A_ROUTE = ("mtu", "advmss", "priority", "table", "scope")


def family(address: str) -> int:
    """Return 4 or 6 for an address or prefix; CorruptError if it is neither."""
    text, slash, prefix = address.partition("/")
    version = 6 if ":" in text else 4
    most = 32 if version == 4 else 128
    try:
        inet_pton(AF_INET6 if version == 6 else AF_INET, text)
        right = not slash or 0 <= int(prefix) <= most
    except (OSError, ValueError):
        right = False
    if not right:
        raise CorruptError(f"{address[:80]!r} is not an address")
    return version


def parse(document: object, *, where: str) -> Result:
    """Return the result in *document*; CorruptError, beginning with *where*, if it is invalid."""
    if not isinstance(document, dict):
        raise CorruptError(f"{where}: the result is not an object")
    try:
        return _parse(document)
    except CorruptError as error:
        raise CorruptError(f"{where}: {error}") from error


def _parse(document: dict[str, Any]) -> Result:
    interfaces = tuple(map(_interface, _list(document, "interfaces")))
    ips = tuple(map(_address, _list(document, "ips")))
    for ip in ips:
        if ip.interface is not None and not 0 <= ip.interface < len(interfaces):
            raise CorruptError(f"ips: there is no interface {ip.interface}")
    routes = tuple(map(_route, _list(document, "routes")))
    return Result(interfaces, ips, routes, dns(document.get("dns")))


def _list(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items = document.get(key) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise CorruptError(f"{key} is not a list of objects")
    if len(items) > _MOST_ITEMS:
        raise CorruptError(f"{key} has more than {_MOST_ITEMS} items")
    return items


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise CorruptError(f"{key} is not text")
    return value


def _number(item: dict[str, Any], key: str) -> int | None:
    value = item.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise CorruptError(f"{key} is not a whole number")
    return value


def _is_address(item: dict[str, Any], key: str, *, prefix: bool = False) -> str:
    text = _text(item, key)
    if text or prefix:
        family(text)
        if ("/" in text) != prefix:
            raise CorruptError(f"{key} {text[:80]!r} has {'no' if not prefix else 'not a'} prefix")
    return text


def _interface(item: dict[str, Any]) -> Interface:
    mac, sandbox, socket, pci = (_text(item, k) for k in ("mac", "sandbox", "socketPath", "pciID"))
    return Interface(_text(item, "name"), mac, _number(item, "mtu") or 0, sandbox, socket, pci)


def _address(item: dict[str, Any]) -> Address:
    gateway = _is_address(item, "gateway")
    return Address(_is_address(item, "address", prefix=True), gateway, _number(item, "interface"))


def _route(item: dict[str, Any]) -> Route:
    new = {key: _number(item, key) for key in _NEW_IN_A_ROUTE}
    return Route(_is_address(item, "dst", prefix=True), _is_address(item, "gw"), **new)


def dns(document: object) -> Dns:
    """Return the content of a `dns` object; CorruptError if it is invalid."""
    if document is None:
        return Dns()
    if not isinstance(document, dict):
        raise CorruptError("dns is not an object")
    lists: list[tuple[str, ...]] = []
    for key in ("nameservers", "search", "options"):
        items = document.get(key) or []
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise CorruptError(f"dns.{key} is not a list of texts")
        lists.append(tuple(items))
    return Dns(lists[0], _text(document, "domain"), lists[1], lists[2])


def render(result: Result, version: str) -> dict[str, Any]:
    """Return *result* as JSON of that *version*; fields that it does not have are left out."""
    told: dict[str, Any] = {"cniVersion": version}
    makers: tuple[tuple[str, tuple[Any, ...], Callable[[Any, str], Any]], ...] = (
        ("interfaces", result.interfaces, _interface_document),
        ("ips", result.ips, _address_document),
        ("routes", result.routes, _route_document),
    )
    for key, items, make in makers:
        if items:
            told[key] = [make(item, version) for item in items]
    told["dns"] = _given(
        nameservers=list(result.dns.nameservers),
        domain=result.dns.domain,
        search=list(result.dns.search),
        options=list(result.dns.options),
    )
    return told


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in ("", None, [])}


def _interface_document(interface: Interface, version: str) -> dict[str, Any]:
    told = {"name": interface.name, **_given(mac=interface.mac, sandbox=interface.sandbox)}
    if versions.has_collection(version):
        new = _given(socketPath=interface.socket_path, pciID=interface.pci_id)
        told.update(new, **_given(mtu=interface.mtu or None))
    return told


def _address_document(address: Address, version: str) -> dict[str, Any]:
    told = _given(interface=address.interface, address=address.address, gateway=address.gateway)
    if versions.has_families(version):
        return {"version": str(family(address.address)), **told}
    return told


def _route_document(route: Route, version: str) -> dict[str, Any]:
    told = _given(dst=route.dst, gw=route.gw)
    if versions.has_collection(version):
        told.update(_given(**{key: getattr(route, key) for key in _NEW_IN_A_ROUTE}))
    return told
