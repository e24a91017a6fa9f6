"""Driver `vxlan`: one layer-2 network over several hosts, a bridge on each and a tunnel between.

The kernel learns nothing by itself: the engines tell it where each endpoint is (`know`). The
bridge answers ARP and neighbour discovery for endpoints on other hosts, and sends frames only
to the right host. Only broadcasts, and frames to unknown addresses, go to every host. Packets
are not encrypted; those from hosts that are not members are dropped, and frames from elsewhere
with an address that is here.
docs/decisions/vxlan-peers.md has the reasons.
"""

import errno
import hashlib
import re
import socket
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from msgspec.structs import replace

from orlop.kernel.netlink import links, neighbours
from orlop.kernel.netlink.links import Link, Port, Settings
from orlop.kernel.netlink.neighbours import EVERYONE, Forward, Neighbour
from orlop.kernel.netlink.wire import Request
from orlop.kernel.nftables import Nftables
from orlop.model.network import Endpoint, Network
from orlop.model.overlay import Peering
from orlop.network import bridge_device, ownership, tunnel
from orlop.network.bridged import Bridged
from orlop.network.namespace import Home
from orlop.network.refusal import refusals
from orlop.network.tunnel import Tunnel

_GONE = frozenset((errno.ENOENT, errno.ENODEV, errno.ESRCH))


class _Entries(NamedTuple):
    """The entries of bridge and tunnel about other hosts."""

    forwards: frozenset[Forward]
    neighbours: frozenset[Neighbour]


class Vxlan(Bridged):
    """A bridge with one more port, the tunnel."""

    name = "vxlan"
    kinds = ("bridge", "veth", "vxlan")

    def __init__(self, home: Home, engine: str) -> None:
        super().__init__(home, engine)
        self._peerings: dict[str, Peering] = {}
        self._nftables: Nftables | None = None

    def check(self, network: Network) -> Network:
        """Return *network* with VNI, port, this host's address, bridge and MTU filled in."""
        return super().check(tunnel.filled(self.home, network))

    def create(self, network: Network) -> None:
        """Make or repair bridge, tunnel and filter, with all entries about other hosts."""
        wanted = tunnel.tunnel_of(network)
        with ExitStack() as undo:
            is_new = links.find(self.home.netlink, bridge_device.name_of(network)) is None
            bridge = bridge_device.ensure(self.home, self.engine, network)
            if is_new:
                undo.callback(bridge_device.remove, self.home, self.engine, network)
            with refusals(f"make tunnel {wanted.name}", lacking="vxlan"):
                self._set_mac(bridge, bridge_mac(network))
                self._ensure_filter(network, wanted, undo)
                self._ensure_tunnel(network, wanted, bridge, undo)
            self._tell(network, bridge)
            undo.pop_all()

    def remove(self, network: Network) -> None:
        """Remove tunnel, bridge and filter."""
        self._peerings.pop(network.id, None)
        name = tunnel.name_of(network)
        with refusals(f"remove tunnel {name}"):
            link = links.find(self.home.netlink, name)
            if link is not None and ownership.owned_by(self.engine, link.alias) == network.id:
                self._remove_named(link.name)
            super().remove(network)
            self._unfilter(self._table(network.id))

    def know(self, network: Network, peering: Peering) -> None:
        """Take over the state of the other hosts: now, or once the network has devices."""
        before = self._peerings.get(network.id)
        self._peerings[network.id] = peering
        bridge = bridge_device.find(self.home, self.engine, network)
        if bridge is None:
            return
        with refusals(f"bring {ownership.device_name('ov-', network)} up to date"):
            if before is None or before.members != peering.members:
                self._filter(network, tunnel.tunnel_of(network))
            elif before.local != peering.local:
                self._refilter(network, before, peering)
                if replace(before, local=peering.local) == peering:
                    return
            self._tell(network, bridge)

    def strays(self, networks: Collection[Network], endpoints: Collection[Endpoint]) -> list[str]:
        """Return interfaces that belong to none of these; remove filters without a network."""
        known = {self._table(network.id) for network in networks}
        for name in self._tables("inet") | self._tables("bridge"):
            if name not in known:
                self._unfilter(name)
        return super().strays(networks, endpoints)

    # The tunnel

    def _set_mac(self, bridge: int, mac: str) -> None:
        link = links.find(self.home.netlink, bridge)
        if link is not None and link.mac != mac:  # a change makes the kernel forget all neighbours
            self.home.netlink.ask(links.change(bridge, Settings(mac=mac)))

    def _ensure_tunnel(
        self, network: Network, wanted: Tunnel, bridge: int, undo: ExitStack
    ) -> None:
        link = links.find(self.home.netlink, wanted.name)
        if link is not None and not wanted.matches(link):
            self._remove_named(link.name)
            link = None
        if link is None:
            undo.callback(self._remove_named, wanted.name)
            link = self._make(network, wanted, bridge)
        elif link.master != bridge or not link.up or link.mtu != network.mtu:
            right = Settings(master=bridge, mtu=network.mtu, up=True)
            self.home.netlink.ask(links.change(link.ifindex, right))
        apart = self.port(network).isolated  # from containers on other hosts too
        port = Port(isolated=apart, learning=False, neighbours_suppressed=True)
        self.home.netlink.ask(links.change_port(link.ifindex, port))

    def _make(self, network: Network, wanted: Tunnel, bridge: int) -> Link:
        parent = tunnel.parent_of(self.home, wanted.local)
        settings = Settings(name=wanted.name, mtu=network.mtu, master=bridge)
        self.home.netlink.ask(links.make("vxlan", wanted.data(parent.ifindex), settings))
        alias = Settings(alias=ownership.alias(self.engine, network.id))
        self.home.netlink.ask(links.change(wanted.name, alias))
        self.home.silence(wanted.name)  # or every member gets the tunnel's own packets
        up = links.change(wanted.name, Settings(up=True))
        _, answer = self.home.netlink.ask(up, links.look(wanted.name))
        return links.read(answer)

    def _remove_named(self, name: str) -> None:
        with suppress(OSError):
            self.home.netlink.ask(links.remove(name))

    # Entries about other hosts

    def _tell(self, network: Network, bridge: int) -> None:
        """Make the kernel's entries match the peering."""
        peering = self._peerings.get(network.id)
        link = links.find(self.home.netlink, tunnel.name_of(network))
        if peering is None or link is None:
            return
        is_flooding = not network.options.get(tunnel.GROUP)
        wanted = _wanted(peering, bridge, link.ifindex, is_flooding=is_flooding)
        have = self._have(bridge, link.ifindex)
        if peering.is_whole:
            self._take_out(have, wanted)
        self.home.netlink.ask(
            *(neighbours.forward(each) for each in sorted(wanted.forwards - have.forwards)),
            *(
                neighbours.add(bridge, each.address, each.mac)
                for each in sorted(wanted.neighbours - have.neighbours)
            ),
        )

    def _take_out(self, have: _Entries, wanted: _Entries) -> None:
        requests: list[Request] = [
            *(neighbours.stop_forwarding(each) for each in have.forwards - wanted.forwards),
            *(
                neighbours.remove(each.ifindex, each.address)
                for each in have.neighbours - wanted.neighbours
            ),
        ]
        try:
            self.home.netlink.ask(*requests)
        except OSError as error:
            if error.errno not in _GONE:
                raise

    def _have(self, bridge: int, link: int) -> _Entries:
        netlink = self.home.netlink
        found = neighbours.each_forward(netlink, link)
        entries = [
            each
            for family in (socket.AF_INET, socket.AF_INET6)
            for each in neighbours.each(netlink, bridge, family)
        ]
        return _Entries(
            frozenset(each for each in found if each.destination or not each.permanent),
            frozenset(each for each in entries if each.permanent),
        )

    # The filter

    def _table(self, network_id: str) -> str:
        return f"vxlan-{self.engine}-{network_id[:12]}"

    def _ensure_filter(self, network: Network, wanted: Tunnel, undo: ExitStack) -> None:
        """Make sure there is a filter; an earlier engine's stays until we know the members."""
        name = self._table(network.id)
        is_there = name in self._tables("inet") & self._tables("bridge")
        if not is_there:
            undo.callback(self._unfilter, name)
        if not is_there or network.id in self._peerings:
            self._filter(network, wanted)

    def _filter(self, network: Network, wanted: Tunnel) -> None:
        """Accept packets of members only: one transaction, the old rules are valid until then."""
        peering = self._peerings.get(network.id) or Peering()
        version = wanted.version
        members = [each for each in peering.members if (":" in each) == (version == 6)]
        name = self._table(network.id)
        self._nft().run(
            _without(name)
            + _rules(name, wanted, members)
            + _elements("add", name, _addresses_here(network, peering))
        )

    def _refilter(self, network: Network, before: Peering, after: Peering) -> None:
        """Change which addresses are here."""
        old, new = _addresses_here(network, before), _addresses_here(network, after)
        name, gone = self._table(network.id), old - new
        commands = _elements("add", name, gone | new - old) + _elements("delete", name, gone)
        try:
            self._nft().run(commands)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._filter(network, tunnel.tunnel_of(network))

    def _unfilter(self, name: str) -> None:
        with suppress(OSError):
            self._nft().run(_without(name))

    def _tables(self, family: str) -> set[str]:
        """Return the names of our existing filters.

        It accepts any format: a new connection's first `list tables` prints text and JSON,
        one after the other (libnftables 1.1.3).
        """
        listing = self._nft().listing(f"list tables {family}")
        return set(re.findall(rf"\b{re.escape(self._table(''))}[0-9a-f]{{12}}\b", listing))

    def _nft(self) -> Nftables:
        if self._nftables is None:
            self._nftables = Nftables()
        return self._nftables


def bridge_mac(network: Network) -> str:
    """Return the MAC of this host's bridge: it differs between hosts, while they share the id."""
    text = f"{network.id} {network.options.get(tunnel.LOCAL, '')}"
    return f"02:{hashlib.sha256(text.encode()).digest()[:5].hex(':')}"


def _wanted(peering: Peering, bridge: int, link: int, *, is_flooding: bool) -> _Entries:
    forwards: set[Forward] = set()
    entries: set[Neighbour] = set()
    for address in peering.replicate if is_flooding else ():
        forwards.add(Forward(link, EVERYONE, address))
    for each in peering.neighbours:
        forwards.add(Forward(link, each.mac, each.vtep))
        forwards.add(Forward(link, each.mac, permanent=False, master=True))
        entries.update(Neighbour(bridge, address, each.mac, True) for address in each.addresses)  # noqa: FBT003
    return _Entries(frozenset(forwards), frozenset(entries))


def _addresses_here(network: Network, peering: Peering) -> set[tuple[str, str]]:
    """Return the addresses of endpoints here and of the bridge, each with its set."""
    here = {("macs", bridge_mac(network))}
    here.update(_in_set(subnet.gateway) for subnet in network.subnets if subnet.gateway)
    for each in peering.local:
        here.add(("macs", each.mac))
        here.update(_in_set(address) for address in each.addresses)
    return here


def _in_set(address: str) -> tuple[str, str]:
    return "here6" if ":" in address else "here4", address


def _elements(verb: str, name: str, some: Collection[tuple[str, str]]) -> str:
    return "".join(
        f"{verb} element bridge {name} {which} {{ {address} }}\n" for which, address in some
    )


def _without(name: str) -> str:
    """Return the commands that remove the filter *name*, whether it exists or not."""
    return "".join(
        f"add table {family} {name}\ndelete table {family} {name}\n"
        for family in ("inet", "bridge")
    )


def _rules(name: str, wanted: Tunnel, members: Sequence[str]) -> str:
    family, address = ("ip", "ipv4_addr") if wanted.version == 4 else ("ip6", "ipv6_addr")
    elements = f"elements = {{ {', '.join(members)} }};" if members else ""
    ours = f"udp dport {wanted.port} @th,96,24 {wanted.vni}"
    return f"""
table inet {name} {{
    set members {{ type {address}; {elements} }}
    chain input {{
        type filter hook input priority -10; policy accept;
        {ours} {family} saddr @members accept
        {ours} counter drop comment "no member of this network"
    }}
}}
table bridge {name} {{
    set macs {{ type ether_addr; }}
    set here4 {{ type ipv4_addr; }}
    set here6 {{ type ipv6_addr; }}
    chain prerouting {{
        comment "a member sends nothing that claims to be from somebody here"
        type filter hook prerouting priority -312; policy accept;
        iifname "{wanted.name}" goto from-elsewhere
    }}
    chain from-elsewhere {{
        ether saddr @macs drop
        arp saddr ether @macs drop
        arp saddr ip @here4 drop
        ip saddr @here4 drop
        ip6 saddr @here6 drop
        icmpv6 type nd-neighbor-advert icmpv6 taddr @here6 drop
    }}
}}
"""
