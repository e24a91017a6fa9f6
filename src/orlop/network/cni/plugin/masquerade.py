"""Masquerading of packets that containers send to other networks: `ipMasq`.

One table, `inet orlop-cni`, has rules that never change; an attachment's addresses are
elements of sets, each with its owner as a comment. So an attachment is one transaction, and
never affects another one.
"""

from __future__ import annotations

import errno

from orlop.kernel.nftables import Nftables
from orlop.model import jsontext
from orlop.network.cni.result import family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

_TABLE = "inet orlop-cni"
_FAMILIES = {4: ("ip", "ipv4_addr", "224.0.0.0/4"), 6: ("ip6", "ipv6_addr", "ff00::/8")}


def _set(version: int) -> str:
    return f"inside{version}"


def _whole() -> str:
    """Return the commands for the table; existing sets stay, rules are made again."""
    lines = [f"add table {_TABLE}"]
    chain = f"{_TABLE} postrouting"
    hook = "type nat hook postrouting priority srcnat; policy accept;"
    lines += [f"add chain {chain} {{ {hook} }}", f"flush chain {chain}"]
    for version, (name, kind, several) in _FAMILIES.items():
        own = f"{name} saddr . {name} daddr @{_set(version)}"
        lines += [
            f"add set {_TABLE} {_set(version)} {{ type {kind} . {kind}; flags interval; }}",
            f"add set {_TABLE} from{version} {{ type {kind}; }}",
            f"add rule {chain} {own} return",
            f"add rule {chain} {name} daddr {several} return",
            f"add rule {chain} {name} saddr @from{version} masquerade",
        ]
    return "\n".join(lines)


def add(owner: str, addresses: Iterable[str]) -> None:
    """Masquerade packets from these interface addresses of *owner* to other networks."""
    lines = []
    for address in addresses:
        version, bare = family(address), address.partition("/")[0]
        comment = f'comment "{owner}"'
        inside = f"{bare} . {_subnet(address)}"
        lines += [
            f"add element {_TABLE} {_set(version)} {{ {inside} {comment} }}",
            f"add element {_TABLE} from{version} {{ {bare} {comment} }}",
        ]
    nft = Nftables()
    try:
        try:
            nft.run("\n".join(lines))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            nft.run("\n".join([_whole(), *lines]))
    finally:
        nft.close()


def _subnet(address: str) -> str:
    """Return the subnet of an interface address, masked as by nft's own library."""
    from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

    bare, _, prefix = address.partition("/")
    kind = AF_INET if family(address) == 4 else AF_INET6
    packed = inet_pton(kind, bare)
    hosts = len(packed) * 8 - int(prefix)
    base = int.from_bytes(packed, "big") >> hosts << hosts
    return f"{inet_ntop(kind, base.to_bytes(len(packed), 'big'))}/{prefix}"


def remove(owner: str, addresses: Iterable[str], sure: Container[str] = ()) -> None:
    """Stop masquerading for *owner*, with these interface addresses as far as they are known.

    An element that belongs to another owner by now stays. For addresses that are *sure* to be
    the owner's this is not checked, because nft reads the whole set for it. If none is known,
    all elements are checked.
    """
    known = tuple(addresses)
    if not known:
        collect(lambda other: other == owner)
        return
    nft = Nftables()
    try:
        try:
            _delete(nft, [address for address in known if address in sure])
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            sure = ()  # some are missing
        rest = [address for address in known if address not in sure]
        _delete(nft, [address for address in rest if _is_of(nft, address, owner)])
    finally:
        nft.close()


def _delete(nft: Nftables, addresses: Iterable[str]) -> None:
    lines = []
    for address in addresses:
        version, bare = family(address), address.partition("/")[0]
        lines += [
            f"delete element {_TABLE} from{version} {{ {bare} }}",
            f"delete element {_TABLE} {_set(version)} {{ {bare} . {_subnet(address)} }}",
        ]
    if lines:
        nft.run("\n".join(lines))


def _is_of(nft: Nftables, address: str, owner: str) -> bool:
    version, bare = family(address), address.partition("/")[0]
    try:
        told = nft.listing(f"get element {_TABLE} from{version} {{ {bare} }}")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return f'comment "{owner}"' in told  # nft has no JSON for a single element


def collect(gone: Callable[[str], bool]) -> None:
    """Stop masquerading for all owners that are *gone*."""
    nft = Nftables()
    try:
        lines = [
            f"delete element {_TABLE} {name} {{ {key} }}"
            for name, key, owner in _elements(nft)
            if gone(owner)
        ]
        if lines:
            nft.run("\n".join(lines))
    finally:
        nft.close()


def owners(version: int) -> set[str]:
    """Return the owners of addresses of that IP version."""
    nft = Nftables()
    try:
        return {owner for name, _, owner in _elements(nft) if name == f"from{version}"}
    finally:
        nft.close()


def _elements(nft: Nftables) -> Iterator[tuple[str, str, str]]:
    """Yield set, key and owner of each element."""
    try:
        listing = nft.listing(f"list table {_TABLE}")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return
    yield from _in(listing)


def _in(listing: str) -> Iterator[tuple[str, str, str]]:
    for one in jsontext.loads(listing)["nftables"]:
        found = one.get("set") or {}
        for element in found.get("elem", ()):
            if isinstance(element, dict) and "elem" in element:
                value, owner = element["elem"]["val"], element["elem"].get("comment", "")
                yield found["name"], _key(value), owner


def _key(value: object) -> str:
    """Return an element's key in nft's language, from its JSON."""
    if not isinstance(value, dict):
        return str(value)
    if "concat" in value:
        return " . ".join(_key(part) for part in value["concat"])
    prefix = value["prefix"]
    return f"{prefix['addr']}/{prefix['len']}"
