"""Anti-spoofing: ports of bridges may send only from their own addresses.

This is a table of the bridge family, beside the firewall's and with its name. A port sends
only frames with the MAC and IP addresses of its endpoint, announces only these addresses
(ARP, neighbour discovery), and is no DHCP server and no router. An isolated port exchanges
frames only with this host. There are few rules and they never change; a port is an element of
each set.

If the host filters bridged frames (br_netfilter), it switches frames that it has translated
for a published port to another port, between the hooks of this table: hence two chains for
isolated ports. The first sees the destination that a program used, the second the real one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

from orlop.kernel.netlink.wire import hardware, hardware_text
from orlop.kernel.nftables import Nftables
from orlop.network.firewall.bridges import is_there, make_table
from orlop.network.firewall.rules import NAME_BYTES, quoted
from orlop.network.ipam import link_local

#: A set, and an element of it: a port's name, and addresses.
_Key = tuple[str | bytes | IPv4Address | IPv6Address, ...]
_Element = tuple[str, _Key]

_LOOKS = 32  # checks of released interfaces, for each change

_RULES = """
set ports { type ifname; }
set macs { type ifname . ether_addr; }
set own4 { type ifname . ether_addr . ipv4_addr; }
set own6 { type ifname . ether_addr . ipv6_addr; }
set apart { type ifname; }
set homes { type ifname . ether_addr; }
set inward4 { type ether_addr . ipv4_addr; }
set inward6 { type ether_addr . ipv6_addr; }
chain apart-sent {
    comment "a port that is apart sends to its bridge's own address, and is not sent to"
    type filter hook prerouting priority -311; policy accept;
    iifname @apart ether daddr & 01:00:00:00:00:00 == 0 iifname . ether daddr != @homes drop
    ether daddr . ip daddr @inward4 drop
    ether daddr . ip6 daddr @inward6 drop
}
chain apart-switched {
    comment "of what is switched to and from such a port only what the host has translated is left"
    type filter hook forward priority -310; policy accept;
    oifname @apart goto to-apart
    iifname @apart goto from-apart
}
chain to-apart {
    ether daddr . ip daddr @inward4 accept
    ether daddr . ip6 daddr @inward6 accept
    drop
}
chain from-apart {
    iifname . ether daddr @homes drop
    ether daddr & 01:00:00:00:00:00 != 0 drop
    ether type { ip, ip6 } accept
    drop
}
chain prerouting {
    comment "a port sends what has its own addresses, and no other protocols than ARP and IP"
    type filter hook prerouting priority -310; policy accept;
    iifname @ports goto sent
}
chain sent {
    iifname . ether saddr != @macs drop
    ether type arp goto sent-arp
    ether type ip goto sent4
    ether type ip6 goto sent6
    drop
}
chain sent-arp {
    comment "who has no address yet may ask whether somebody has it"
    iifname . arp saddr ether . arp saddr ip @own4 accept
    iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 arp operation request accept
    drop
}
chain sent4 {
    udp sport 67 drop
    iifname . ether saddr . ip saddr @own4 accept
    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
    drop
}
chain sent6 {
    udp sport 547 drop
    icmpv6 type { nd-router-advert, nd-redirect } drop
    icmpv6 type nd-neighbor-advert iifname . ether saddr . icmpv6 taddr != @own6 drop
    iifname . ether saddr . ip6 saddr @own6 accept
    ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . ether saddr . icmpv6 taddr @own6 accept
    ip6 saddr :: icmpv6 type { nd-router-solicit, mld2-listener-report } accept
    drop
}
"""


class Sender(NamedTuple):
    """A port: the host's end of a veth, and the addresses of its endpoint."""

    interface: str
    mac: str
    addresses: tuple[str, ...]  # without prefix lengths
    is_checked: bool = True  # it may send only from its own addresses
    home: str = ""  # for an isolated port: the MAC of its bridge

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses that it may send from: its own, and with IPv6 its link-local one."""
        if any(":" in address for address in self.addresses):
            return tuple(dict.fromkeys((*self.addresses, link_local(self.mac))))
        return self.addresses


_NOBODY: Mapping[str, Sender] = MappingProxyType({})


class Senders:
    """The ports of one engine, in the caller's network namespace; *table* is the table's name.

    For one thread. A method that fails changes neither rules nor memory. When the engine ends
    or dies the rules stay: containers keep running, and are checked.
    """

    def __init__(self, nft: Nftables, table: str) -> None:
        self._nft = nft
        self._name = table
        self._table = f"bridge {table}"
        self._made = False
        self._known: dict[str, Sender] = {}  # by interface
        self._leaving: dict[str, Sender] = {}  # released ports, which may still exist

    def admit(self, some: Iterable[Sender]) -> None:
        """Let ports send as given, and in no other way, from now on; all or none.

        Raises:
            UnsupportedError: the kernel has no nftables for bridges.
        """
        new = {one.interface: one for one in some if self._known.get(one.interface) != one}
        if not new:
            return
        if not self._made or any(name in self._known or name in self._leaving for name in new):
            self._make({**self._known, **new})
        else:
            elements = [element for one in new.values() for element in _elements(one)]
            self._change(self._nft.add_elements, elements, lambda: {**self._known, **new})
        self._known.update(new)

    def release(self, interfaces: Collection[str]) -> None:
        """Remove ports; an unknown one is no error. While one exists it can send nothing."""
        gone = {name: self._known[name] for name in interfaces if name in self._known}
        if not gone:
            return
        looked = islice(self._leaving.items(), _LOOKS * len(gone))
        left = {name: one for name, one in looked if not is_there(name)}
        elements = [element for one in gone.values() for element in _addresses(one)]
        elements += [element for one in left.values() for element in _port(one)]
        self._change(
            self._nft.delete_elements,
            elements,
            lambda: {name: one for name, one in self._known.items() if name not in gone},
            leaving=gone,
        )
        for name in left:
            self._leaving.pop(name, None)
        for name in gone:
            self._leaving[name] = self._known.pop(name)

    def restore(self) -> None:
        """Restore the rules, because somebody has changed them."""
        if self._made:
            self._make(self._known)

    def reconcile(self, some: Iterable[Sender]) -> None:
        """Check exactly these ports."""
        whole = {one.interface: one for one in some}
        if whole:
            self._make(whole)
            self._known = whole
        else:
            self._remove()

    def clear(self) -> None:
        """Remove the rules, because there are no ports any more."""
        if self._made:
            self._remove()

    def _make(self, whole: Mapping[str, Sender], leaving: Mapping[str, Sender] = _NOBODY) -> None:
        """Make the table again, in one transaction; ports that are *leaving* send nothing."""
        left = {
            name: one
            for name, one in {**self._leaving, **leaving}.items()
            if name not in whole and is_there(name)
        }
        elements = [element for one in whole.values() for element in _elements(one)]
        elements += [element for one in left.values() for element in _port(one)]
        commands = [_none(self._table), f"table {self._table} {{{_RULES}}}\n"]
        commands += [
            f"add element {self._table} {name} {{ {' . '.join(map(_said, key))} }}\n"
            for name, key in elements
        ]
        make_table(self._nft, "".join(commands), purpose="check what containers send")
        self._made = True
        self._leaving = left

    def _change(
        self,
        change: Callable[[str, str, Iterable[tuple[str, bytes]]], None],
        elements: Iterable[_Element],
        whole: Callable[[], Mapping[str, Sender]],
        *,
        leaving: Mapping[str, Sender] = _NOBODY,
    ) -> None:
        """Change *elements*; if the table is not as we left it, make the *whole* again instead."""
        packed = [(name, b"".join(map(_packed, key))) for name, key in elements]
        try:
            change("bridge", self._name, packed)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EEXIST}:
                raise
            self._make(whole(), leaving)

    def _remove(self) -> None:
        with suppress(OSError):  # a kernel without bridge tables has none
            self._nft.run(_none(self._table))
        self._made = False
        self._known = {}
        self._leaving = {}


def _elements(one: Sender) -> Iterator[_Element]:
    """Yield all elements of a port."""
    yield from _port(one)
    yield from _addresses(one)


def _port(one: Sender) -> Iterator[_Element]:
    """Yield the elements of a port without its addresses: it can send nothing then."""
    if one.is_checked:
        yield "ports", (one.interface,)
    if one.home:
        yield "apart", (one.interface,)


def _addresses(one: Sender) -> Iterator[_Element]:
    mac = hardware(one.mac)
    sources = [ip_address(address) for address in one.sources]
    if one.is_checked:
        yield "macs", (one.interface, mac)
        for address in sources:
            yield f"own{address.version}", (one.interface, mac, address)
    if one.home:
        yield "homes", (one.interface, hardware(one.home))
        for address in sources:
            yield f"inward{address.version}", (mac, address)


def _said(part: str | bytes | IPv4Address | IPv6Address) -> str:
    """Return a part of a key in nft's syntax."""
    if isinstance(part, str):
        return quoted(part)
    return hardware_text(part) if isinstance(part, bytes) else str(part)


def _packed(part: str | bytes | IPv4Address | IPv6Address) -> bytes:
    """Return a part of a key in the kernel's format."""
    if isinstance(part, str):
        return part.encode().ljust(NAME_BYTES, b"\0")
    return part + b"\0\0" if isinstance(part, bytes) else part.packed


def _none(table: str) -> str:
    return f"add table {table}\ndelete table {table}\n"
