"""Write outlets in nft's language; nothing is executed here.

There are two tables. The bridge table makes sure that an outlet's frames have its own
addresses, and that they, and frames to it from the same bridge, go to the host's IP whatever
their destination. The IP table has a list's rules in a chain, and one lookup from an outlet's
address to the chain: neither grows with the number of outlets. Equal lists share a chain.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

from orlop.model.egress import Destination
from orlop.network.egress.learned import Opening
from orlop.network.egress.outlet import Outlet

_Network = IPv4Network | IPv6Network

#: How long a destination stays open after the last packet of a connection.
_IDLE = "1h"
_MOST_LEARNED = 1 << 18

_BRIDGE = """
set outlets {{ type ifname; }}
map homes {{ type ifname : ether_addr; }}
set own4 {{ type ifname . ether_addr . ipv4_addr; }}
set own6 {{ type ifname . ether_addr . ipv6_addr; }}
map inward4 {{ type ether_addr . ipv4_addr : ether_addr; }}
map inward6 {{ type ether_addr . ipv6_addr : ether_addr; }}
chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname @outlets goto sent
    ip6 nexthdr icmpv6 icmpv6 type {neighbor} accept
    ether daddr set ether daddr . ip daddr map @inward4 meta pkttype set host accept
    ether daddr set ether daddr . ip6 daddr map @inward6 meta pkttype set host accept
}}
chain sent {{
    ether type arp goto sent-arp
    ether type ip iifname . ether saddr . ip saddr @own4 ip hdrlength 5 goto inward
    ether type ip6 iifname . ether saddr . ip6 saddr @own6 goto sent6
    drop
}}
chain sent-arp {{
    comment "no longer than a frame has to be, or others on the bridge could be told things"
    meta length > 46 drop
    iifname . ether saddr . arp saddr ip != @own4 drop
    iifname . arp saddr ether . arp saddr ip != @own4 drop
    arp operation {{ request, reply }} accept
    drop
}}
chain sent6 {{
    ip6 nexthdr icmpv6 icmpv6 type nd-neighbor-solicit meta length <= 80 accept
    ip6 nexthdr icmpv6 icmpv6 type nd-neighbor-advert meta length <= 80 \
        iifname . ether saddr . icmpv6 taddr @own6 accept
    ip6 nexthdr hopopt ip6 daddr ff02::16 accept
    exthdr rt exists drop
    goto inward
}}
chain inward {{
    ether daddr set iifname map @homes meta pkttype set host accept
    drop
}}
chain forward {{
    comment "if the bridge has another address than we know, nobody else gets what was for it"
    type filter hook forward priority -300; policy accept;
    iifname != @outlets accept
    ether type arp accept
    ip6 nexthdr icmpv6 icmpv6 type {neighbor} accept
    drop
}}
"""

_INET = """
set outlets {{ type ifname; }}
map lists4 {{ type ifname . ipv4_addr : verdict; }}
map lists6 {{ type ifname . ipv6_addr : verdict; }}
{learned}
chain prerouting {{
    comment "before addresses are translated: what counts is where a program sent it to"
    type filter hook prerouting priority -150; policy accept;
    iifname @outlets drop
    icmpv6 type {neighbor} fib daddr type {{ local, multicast, anycast }} accept
    iifname . ip saddr vmap @lists4
    iifname . ip6 saddr vmap @lists6
}}
chain learned {{
    comment "what a name led to; this host itself is reached by address only"
    fib daddr type local goto refuse
{looks}
    goto refuse
}}
chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
}}
"""
_NEIGHBOR = "{ nd-neighbor-solicit, nd-neighbor-advert }"

#: Sets of addresses that names resolved to, and the packet's fields to look up in them.
LEARNED = {
    f"{kind}{version}": (
        f"ifname . {ip}_addr . {ip}_addr{types}",
        f"iifname . {selector} saddr . {selector} daddr{selectors}",
    )
    for version, ip, selector in ((4, "ipv4", "ip"), (6, "ipv6", "ip6"))
    for kind, types, selectors in (
        ("ports", " . inet_proto . inet_service", " . meta l4proto . th dport"),
        ("all", "", ""),
    )
}


def tables(name: str) -> str:
    """Return the commands that make the tables *name* again, without outlets."""
    sets = (
        f"set {one} {{ type {kind}; flags dynamic,timeout; size {_MOST_LEARNED}; }}"
        for one, (kind, _) in LEARNED.items()
    )
    looks = (
        f"ct state established {look} @{one} update @{one} {{ {look} timeout {_IDLE} }} accept\n"
        f"{look} @{one} accept"
        for one, (_, look) in LEARNED.items()
    )
    inet = _INET.format(neighbor=_NEIGHBOR, learned="\n".join(sets), looks="\n".join(looks))
    bridge = _BRIDGE.format(neighbor=_NEIGHBOR)
    return f"{none(name)}table inet {name} {{{inet}}}\ntable bridge {name} {{{bridge}}}\n"


def none(name: str) -> str:
    """Return the commands that remove the tables *name*, whether they exist or not."""
    return "".join(
        f"add table {family} {name}\ndelete table {family} {name}\n"
        for family in ("inet", "bridge")
    )


def list_of(outlet: Outlet) -> str:
    """Return the name of *outlet*'s chain, shared by all outlets with the same list."""
    text = "\n".join(map(str, sorted(one for one in outlet.destinations if one.network)))
    return f"list-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def chain(table: str, outlet: Outlet) -> str:
    """Return the commands that make the outlet's chain, which does not exist yet."""
    own = f"inet {table} {list_of(outlet)}"
    rules = ("ct state established ct direction reply accept", *_accepted(outlet.destinations))
    return f"add chain {own}\n" + "".join(
        f"add rule {own} {rule}\n" for rule in (*rules, "goto learned")
    )


def without_chain(table: str, name: str) -> str:
    """Return the commands that remove the chain of a list without outlets."""
    return f"delete chain inet {table} {name}\n"


def outlet(table: str, one: Outlet) -> str:
    """Return the commands that guard an outlet, whose chain exists."""
    return interface(table, one.interface, one.bridge_mac) + "".join(
        f"add element {family} {table} {which} {{ {key}{f' : {value}' if value else ''} }}\n"
        for family, which, key, value in _sources(one)
    )


def without_sources(table: str, one: Outlet) -> str:
    """Return the commands that block everything an outlet sends."""
    return "".join(
        f"delete element {family} {table} {which} {{ {key} }}\n"
        for family, which, key, _ in _sources(one)
    )


def _sources(one: Outlet) -> Iterator[tuple[str, str, str, str]]:
    """Yield family, set or map, key and value for each of an outlet's addresses."""
    name, bridge = _text(one.interface), _text(one.bridge)
    for source in one.sources:
        address = ip_address(source)
        yield "bridge", f"own{address.version}", f"{name} . {one.mac} . {source}", ""
        yield "inet", f"lists{address.version}", f"{bridge} . {source}", f"goto {list_of(one)}"
        if not address.is_link_local:
            yield "bridge", f"inward{address.version}", f"{one.mac} . {source}", one.bridge_mac


def interface(table: str, name: str, bridge_mac: str) -> str:
    """Return the commands that let an interface send only from its outlet's addresses."""
    return (
        f"add element inet {table} outlets {{ {_text(name)} }}\n"
        f"add element bridge {table} outlets {{ {_text(name)} }}\n"
        f"add element bridge {table} homes {{ {_text(name)} : {bridge_mac} }}\n"
    )


def without_interface(table: str, name: str) -> str:
    """Return the commands that remove the interface of an outlet, which is gone."""
    return "".join(
        f"delete element {which} {{ {_text(name)} }}\n"
        for which in (f"inet {table} outlets", f"bridge {table} outlets", f"bridge {table} homes")
    )


def openings(table: str, wanted: Iterable[tuple[Opening, int]]) -> str:
    """Return the commands that open addresses, each for the given number of seconds."""
    return "".join(
        f"{_closing(table, one)}add element inet {table} {one.set} "
        f"{{ {_key(one)} timeout {seconds}s }}\n"
        for one, seconds in wanted
    )


def closings(table: str, gone: Iterable[Opening]) -> str:
    """Return the commands that close addresses; one that is closed already is no error."""
    return "".join(_closing(table, one) for one in gone)


def _closing(table: str, one: Opening) -> str:
    element = f"element inet {table} {one.set} {{ {_key(one)} }}\n"
    return f"add {element}delete {element}"  # deleting a missing one would fail


def _key(one: Opening) -> str:
    ports = f" . {one.protocol} . {one.port}" if one.protocol else ""
    return f"{_text(one.bridge)} . {one.source} . {one.address}{ports}"


def _accepted(destinations: Iterable[Destination]) -> Iterator[str]:
    """Yield a rule for each protocol and range of ports, with all its networks."""
    groups: dict[tuple[str, int, int], list[_Network]] = {}
    for one in sorted(destinations):
        if one.network:
            key = (one.protocol, one.first_port, one.last_port)
            groups.setdefault(key, []).append(ip_network(one.network))
    for (protocol, first, last), networks in groups.items():
        ports = f"{protocol} dport {first}-{last} " if protocol else ""
        for version, selector in ((4, "ip"), (6, "ip6")):
            mine = [one for one in networks if one.version == version]
            if mine:
                yield f"{selector} daddr {{ {_disjoint(mine)} }} {ports}accept"


def _disjoint(networks: Sequence[_Network]) -> str:
    return ", ".join(map(str, collapse_addresses(networks)))  # type: ignore[type-var] # all of one version


def _text(interface: str) -> str:
    return f'"{interface}"'
