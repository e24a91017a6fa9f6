"""From a FirewallState to nft's language; nothing is done here.

Rules are few and never change: what differs from one network or port to the next is an
element of a set or map, so that a packet's way is as long with a thousand of them.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

from orlop.errors import InvalidArgumentError
from orlop.model.ports import PROTOCOLS
from orlop.network.firewall.state import FirewallState, NetworkRules, Note, PublishedPort

#: Elements by the name of their set or map; a map's are (key, value), a set's have no value.
Elements = dict[str, list[tuple[str, str]]]

NAME_BYTES = 16  # IFNAMSIZ, of an interface's name in a key
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_PORT = "inet_proto . inet_service"

_SETS = {
    "bridges": "set bridges { type ifname; }",
    "internal": "set internal { type ifname; }",
    "together": "set together { type ifname . ifname; }",
    "own4": "set own4 { type ifname . ipv4_addr; flags interval; }",
    "own6": "set own6 { type ifname . ipv6_addr; flags interval; }",
    "masquerade4": "set masquerade4 { type ipv4_addr; flags interval; }",
    "masquerade6": "set masquerade6 { type ipv6_addr; flags interval; }",
    "metadata": "set metadata { type ifname; }",
    "readers4": "set readers4 { type ifname . ipv4_addr; }",
    "readers6": "set readers6 { type ifname . ipv6_addr; }",
    "apart4": "set apart4 { type ifname . ipv4_addr; }",
    "apart6": "set apart6 { type ifname . ipv6_addr; }",
    "guarded4": "set guarded4 { type ifname; }",
    "guarded6": "set guarded6 { type ifname; }",
    "ports4": f"map ports4 {{ type {_PORT} : ipv4_addr . inet_service; }}",
    "ports6": f"map ports6 {{ type {_PORT} : ipv6_addr . inet_service; }}",
    "bound4": f"map bound4 {{ type ipv4_addr . {_PORT} : ipv4_addr . inet_service; }}",
    "bound6": f"map bound6 {{ type ipv6_addr . {_PORT} : ipv6_addr . inet_service; }}",
}

#: Where clouds tell their machines who they are, and what their keys are.
METADATA = ("169.254.0.0/16", "fd00:ec2::254/128", "fd20:ce::254/128")
_METADATA = {"metadata4": METADATA[0], "metadata6": f"{{ {', '.join(METADATA[1:])} }}"}

_CHAINS = """
chain raw {
    comment "bridges have route_localnet, for answers to the host's own loopback and nothing else"
    type filter hook prerouting priority -300; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
}
chain prerouting {
    comment "a port published on loopback is no port to what comes from outside"
    type nat hook prerouting priority -100; policy accept;
    ip daddr 127.0.0.0/8 return
    fib daddr type local jump ports
}
chain output {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump ports
}
chain ports {
    meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @bound4
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4
    meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound6
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6
}
chain postrouting {
    comment "answers to a container's call of a published port of its own network come back here"
    type nat hook postrouting priority 100; policy accept;
    ct status dnat oifname . ip saddr @own4 masquerade
    ct status dnat oifname . ip6 saddr @own6 masquerade
    oifname . ip saddr @own4 return
    oifname . ip6 saddr @own6 return
    ip saddr @masquerade4 masquerade
    ip6 saddr @masquerade6 masquerade
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname @bridges ip6 saddr ::1 masquerade
}
chain forward {
    type filter hook forward priority 0; policy accept;
    iifname . oifname @together jump together
    ct state established,related accept
    iifname @internal drop
    oifname @internal drop
    iifname @bridges jump bridged
    ct status dnat accept
    oifname @bridges drop
    meta nfproto ipv4 iifname @guarded4 oifname @guarded4 drop
    meta nfproto ipv6 iifname @guarded6 oifname @guarded6 drop
}
chain together {
    comment "before what is known of connections, for an address may have been another's before"
    ct status dnat accept
    iifname . ip saddr @apart4 drop
    oifname . ip daddr @apart4 drop
    iifname . ip6 saddr @apart6 drop
    oifname . ip6 daddr @apart6 drop
    accept
}
chain input {
    comment "from an internal network only the host's addresses in that network are reached"
    type filter hook input priority 0; policy accept;
    iifname @internal fib daddr type local fib daddr . iif type != local drop
    iifname @bridges jump bridged
}
chain bridged {
    comment "what counts is where a program sent it to, also if the host translates the address"
    ip daddr %(metadata4)s goto metadata
    ct original ip daddr %(metadata4)s goto metadata
    ip6 daddr %(metadata6)s goto metadata
    ct original ip6 daddr %(metadata6)s goto metadata
}
chain metadata {
    comment "keys of the machine may be there, and so may its name server"
    iifname @metadata return
    iifname . ip daddr @own4 return
    iifname . ip saddr @readers4 return
    iifname . ip6 saddr @readers6 return
    meta l4proto { tcp, udp } th dport 53 return
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
}
"""


#: Where bridges hand IPv6 to netfilter (br_netfilter), an answer is for ::1 already when it
#: leaves the bridge, and the kernel refuses such. Better then to refuse the call at once.
_NO_LOOPBACK6 = "insert rule inet {name} output ip6 daddr ::1 return\n"


def table(
    name: str, state: FirewallState, guarded: Mapping[int, Sequence[str]], *, loopback6: bool
) -> str:
    """Return the commands that make *name* what *state* says, whatever it was before.

    *guarded* are interfaces of the host, by IP version, that must not forward to each
    other; *loopback6* whether ports can be reached by ::1.
    """
    elements = of_networks(state.networks)
    _join(elements, of_ports(state.ports))
    _join(elements, of_notes(state.notes))
    for version, interfaces in guarded.items():
        elements[f"guarded{version}"] = [(quoted(one), "") for one in interfaces]
    return (
        f"add table inet {name}\n{without(name)}"
        f"table inet {name} {{\n{chr(10).join(_SETS.values())}{_CHAINS % _METADATA}}}\n"
        + added(name, elements)
        + ("" if loopback6 else _NO_LOOPBACK6.format(name=name))
    )


def without(name: str) -> str:
    """Return the command that removes the table *name*, which has to be there."""
    return f"delete table inet {name}\n"


def added(name: str, elements: Elements) -> str:
    """Return the commands that add *elements* to the table *name*."""
    return "".join(
        f"add element inet {name} {one} "
        f"{{ {', '.join(f'{key} : {value}' if value else key for key, value in pairs)} }}\n"
        for one, pairs in elements.items()
        if pairs
    )


def removed(name: str, elements: Elements) -> str:
    """Return the commands that remove *elements* from the table *name*: all have to be there."""
    return "".join(
        f"delete element inet {name} {one} {{ {', '.join(key for key, _ in pairs)} }}\n"
        for one, pairs in elements.items()
        if pairs
    )


def of_networks(networks: Iterable[NetworkRules]) -> Elements:
    """Return the elements that stand for *networks*; InvalidArgumentError for a bad name."""
    elements: Elements = {name: [] for name in _SETS}
    for network in networks:
        bridge = quoted(network.bridge)
        elements["bridges"].append((bridge, ""))
        if network.internal:
            elements["internal"].append((bridge, ""))
        if network.metadata:
            elements["metadata"].append((bridge, ""))
        if network.icc:
            elements["together"].append((f"{bridge} . {bridge}", ""))
        for text in network.subnets:
            subnet = _subnet(text)
            elements[f"own{subnet.version}"].append((f"{bridge} . {subnet}", ""))
            if network.masquerade and not network.internal:
                elements[f"masquerade{subnet.version}"].append((str(subnet), ""))
    return elements


def of_ports(ports: Iterable[PublishedPort]) -> Elements:
    """Return the elements that stand for *ports*; InvalidArgumentError for what cannot be one."""
    elements: Elements = {name: [] for name in ("ports4", "ports6", "bound4", "bound6")}
    for port in ports:
        host, target = _address(port.host_ip), _address(port.address)
        if host.version != target.version:
            raise InvalidArgumentError(f"port on {host} cannot lead to {target}")
        if port.protocol not in PROTOCOLS:
            raise InvalidArgumentError(f"cannot publish a port of protocol {port.protocol!r}")
        key = f"{port.protocol} . {_number(port.host_port)}"
        value = f"{target} . {_number(port.container_port)}"
        if host.is_unspecified:
            elements[f"ports{host.version}"].append((key, value))
        else:
            elements[f"bound{host.version}"].append((f"{host} . {key}", value))
    return elements


def of_notes(notes: Iterable[Note]) -> Elements:
    """Return the elements that stand for *notes*; InvalidArgumentError for a bad address."""
    elements: Elements = {}
    for what, bridge, text in notes:
        address = _address(text)
        one = (f"{quoted(bridge)} . {address}", "")
        elements.setdefault(f"{what}{address.version}", []).append(one)
    return elements


def keys_of(notes: Iterable[Note]) -> list[tuple[str, bytes]]:
    """Return the same as sets and keys, for Nftables.add_elements."""
    found = []
    for what, bridge, text in notes:
        address = _address(text)
        key = bridge.encode().ljust(NAME_BYTES, b"\0") + address.packed
        found.append((f"{what}{address.version}", key))
    return found


def _join(elements: Elements, more: Elements) -> None:
    for name, pairs in more.items():
        elements.setdefault(name, []).extend(pairs)


def quoted(name: str) -> str:
    """Return an interface's *name* as nft writes it; InvalidArgumentError for what is none."""
    if not _INTERFACE.fullmatch(name):
        raise InvalidArgumentError(f"{name!r} is no name of a network interface")
    return f'"{name}"'


def _number(port: int) -> int:
    if not 0 < port < 1 << 16:
        raise InvalidArgumentError(f"{port} is no port number")
    return port


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError as error:
        raise InvalidArgumentError(f"{text!r} is no IP address") from error


def _subnet(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network("" if "%" in text else text)  # a zone may be any text
    except ValueError as error:
        raise InvalidArgumentError(f"{text!r} is no subnet") from error
