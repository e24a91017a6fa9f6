"""What ports of bridges may send: what has their own addresses, as with libvirt's filters.

A table of the bridge family, beside the firewall's and of its name. A port sends frames
with the MAC and IP addresses of its endpoint alone, tells others no addresses but these
(ARP, neighbour discovery), and is no DHCP server and no router. Rules are few and never
change; a port is an element of each set.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from itertools import islice
from typing import NamedTuple

from orlop.kernel.netlink.wire import hardware, hardware_text, packed
from orlop.kernel.nftables import Nftables
from orlop.network.firewall.bridges import is_there, make_table
from orlop.network.firewall.rules import quoted
from orlop.network.ipam import link_local

_NAME_BYTES = 16  # IFNAMSIZ
_LOOKS = 32  # at interfaces that were let go, for each change

_RULES = """
set ports { type ifname; }
set macs { type ifname . ether_addr; }
set own4 { type ifname . ether_addr . ipv4_addr; }
set own6 { type ifname . ether_addr . ipv6_addr; }
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
    """A port: the host's end of a veth, and the addresses of the endpoint behind it."""

    interface: str
    mac: str
    addresses: tuple[str, ...]  # without prefix lengths

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses that it may send from: its own, and that of its link where it has IPv6."""
        if any(":" in address for address in self.addresses):
            return tuple(dict.fromkeys((*self.addresses, link_local(self.mac))))
        return self.addresses


class Senders:
    """The ports of one engine, in the caller's network namespace; the table has the name *table*.

    For one thread. A method that fails leaves rules and memory as they were. Nothing is
    removed when the engine ends, or dies: containers run on, and are checked.
    """

    def __init__(self, nft: Nftables, table: str) -> None:
        self._nft = nft
        self._name = table
        self._table = f"bridge {table}"
        self._made = False
        self._known: dict[str, Sender] = {}  # by interface
        self._leaving: dict[str, None] = {}  # interfaces that were let go, and may be there

    def admit(self, some: Iterable[Sender]) -> None:
        """Let ports send as these and in no other way, from now on; all or none.

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
        """Forget ports; an unknown one is no error. One that is still there sends nothing more."""
        gone = {name: self._known[name] for name in interfaces if name in self._known}
        if not gone:
            return
        left = [name for name in islice(self._leaving, _LOOKS * len(gone)) if not is_there(name)]
        elements = [element for one in gone.values() for element in _sources(one)]
        elements += [("ports", _name(name)) for name in left]
        self._change(
            self._nft.delete_elements,
            elements,
            lambda: {name: one for name, one in self._known.items() if name not in gone},
            leaving=gone,
        )
        for name in left:
            self._leaving.pop(name, None)
        for name in gone:
            del self._known[name]
            self._leaving[name] = None

    def restore(self) -> None:
        """Make the rules what they were, because somebody changed them."""
        if self._made:
            self._make(self._known)

    def reconcile(self, some: Iterable[Sender]) -> None:
        """Check these ports and no others."""
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

    def _make(self, whole: Mapping[str, Sender], leaving: Iterable[str] = ()) -> None:
        """Make the table anew, in one transaction; ports that are *leaving* send nothing."""
        candidates = {**self._leaving, **dict.fromkeys(leaving)}
        left = [name for name in candidates if name not in whole and is_there(name)]
        commands = [_none(self._table), f"table {self._table} {{{_RULES}}}\n"]
        commands += [_added(self._table, one) for one in whole.values()]
        commands += [_port(self._table, name) for name in left]
        make_table(self._nft, "".join(commands), purpose="check what containers send")
        self._made = True
        self._leaving = dict.fromkeys(left)

    def _change(
        self,
        change: Callable[[str, str, Iterable[tuple[str, bytes]]], None],
        elements: Iterable[tuple[str, bytes]],
        whole: Callable[[], Mapping[str, Sender]],
        *,
        leaving: Iterable[str] = (),
    ) -> None:
        """Change *elements*; where the table is not as we left it, make the *whole* instead."""
        try:
            change("bridge", self._name, elements)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EEXIST}:
                raise
            self._make(whole(), leaving)

    def _remove(self) -> None:
        with suppress(OSError):  # a kernel without tables for bridges has none
            self._nft.run(_none(self._table))
        self._made = False
        self._known = {}
        self._leaving = {}


def _added(table: str, one: Sender) -> str:
    """Return the commands after which a port may send, and as this one alone."""
    start = f"{quoted(one.interface)} . {hardware_text(hardware(one.mac))}"
    commands = [_port(table, one.interface), f"add element {table} macs {{ {start} }}\n"]
    for address in map(ip_address, one.sources):
        key = f"{start} . {address}"
        commands.append(f"add element {table} own{address.version} {{ {key} }}\n")
    return "".join(commands)


def _port(table: str, interface: str) -> str:
    return f"add element {table} ports {{ {quoted(interface)} }}\n"


def _elements(one: Sender) -> list[tuple[str, bytes]]:
    """Return the same as sets and keys."""
    return [("ports", _name(one.interface)), *_sources(one)]


def _sources(one: Sender) -> list[tuple[str, bytes]]:
    """Return all but the port itself, without which nothing that it sends is let through."""
    start = _name(one.interface) + hardware(one.mac) + b"\0\0"
    keys = [packed(address) for address in one.sources]
    return [("macs", start), *(("own4" if len(key) == 4 else "own6", start + key) for key in keys)]


def _name(interface: str) -> bytes:
    return interface.encode().ljust(_NAME_BYTES, b"\0")


def _none(table: str) -> str:
    return f"add table {table}\ndelete table {table}\n"
