"""A vxlan network's options, and the route of its packets."""

import secrets
import socket
from collections.abc import Collection
from ipaddress import ip_address
from typing import NamedTuple

from msgspec.structs import replace

from orlop.errors import AlreadyExistsError, InvalidArgumentError, WrongStateError
from orlop.kernel.netlink import addresses, links
from orlop.kernel.netlink.kinds import Vxlan
from orlop.kernel.netlink.links import Link
from orlop.kernel.netlink.wire import attributes, number, unpacked
from orlop.model.network import Network
from orlop.network import options, ownership
from orlop.network.namespace import Home

VNI, PORT, LOCAL, GROUP = "vni", "port", "local", "group"
OVERHEAD_BYTES = {4: 50, 6: 70}  # outer IP, UDP, VXLAN header, and the inner Ethernet header
_DEFAULT_PORT = 4789  # RFC 7348
_MOST_VNI = (1 << 24) - 1
_LEAST_CHOSEN_VNI = 4096  # people choose lower ones by hand
_IFLA_VXLAN_ID, _IFLA_VXLAN_LOCAL, _IFLA_VXLAN_PORT, _IFLA_VXLAN_LOCAL6 = 1, 4, 15, 17
_ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))  # RFC 5737, 3849


class Tunnel(NamedTuple):
    """A network's tunnel on this host."""

    name: str
    vni: int
    port: int
    local: str
    group: str

    @property
    def version(self) -> int:
        return 6 if ":" in self.local else 4

    def matches(self, link: Link) -> bool:
        """Whether an interface is this tunnel, with the same settings."""
        parts = attributes(link.data)
        own = parts.get(_IFLA_VXLAN_LOCAL) or parts.get(_IFLA_VXLAN_LOCAL6)
        return (
            number(parts.get(_IFLA_VXLAN_ID, b"")) == self.vni
            and int.from_bytes(parts.get(_IFLA_VXLAN_PORT, b""), "big") == self.port
            and own is not None
            and unpacked(own) == self.local
        )

    def data(self, link: int) -> bytes:
        """Return the parameters for links.make("vxlan", …); *link* carries the group's packets."""
        return Vxlan(
            vni=self.vni,
            port=self.port,
            local=self.local,
            group=self.group,
            link=link if self.group else 0,
        ).data()


def name_of(network: Network) -> str:
    """Return the name of the tunnel's interface."""
    return ownership.device_name("ov-", network)


def tunnel_of(network: Network) -> Tunnel:
    """Return the tunnel of a network whose options are complete."""
    chosen = network.options
    return Tunnel(
        name=name_of(network),
        vni=_number(chosen, VNI, _MOST_VNI),
        port=_number(chosen, PORT, 65535),
        local=chosen[LOCAL],
        group=chosen.get(GROUP, ""),
    )


def filled(home: Home, network: Network) -> Network:
    """Return *network* with VNI, port, this host's address and MTU chosen, or checked."""
    given = network.options
    local, parent = _local(home, given)
    group = given.get(GROUP, "")
    if group:
        _check_group(group, local)
    port = _number(given, PORT, 65535) if given.get(PORT) else _DEFAULT_PORT
    vni = _vni(home, network, port)
    most = parent.mtu - OVERHEAD_BYTES[6 if ":" in local else 4]
    has_ipv6 = network.ipv6 or any(":" in subnet.subnet for subnet in network.subnets)
    mtu = options.mtu(given, network.mtu, ipv6=has_ipv6) or most
    if mtu > most:
        raise InvalidArgumentError(
            f"packets of {mtu} bytes do not fit into the tunnel: {parent.name} carries {most}",
            hint=f"make the network with --opt {options.MTU}={most}",
        )
    chosen = {**given, VNI: str(vni), PORT: str(port), LOCAL: local}
    return replace(network, mtu=mtu, options=chosen)


def parent_of(home: Home, local: str) -> Link:
    """Return the interface that has the address *local*."""
    for address in addresses.each(home.netlink):
        if address.address.partition("/")[0] == local:
            link = links.find(home.netlink, address.ifindex)
            if link is not None:
                return link
    raise WrongStateError(
        f"{local} is no address of this host", hint="choose another with --opt local=ADDRESS"
    )


def used_vnis(home: Home, port: int, *, but: str) -> Collection[int]:
    """Return the VNIs of this host's other tunnels on *port*."""
    found = set()
    for link in links.each(home.netlink, "vxlan"):
        parts = attributes(link.data)
        if link.name != but and int.from_bytes(parts.get(_IFLA_VXLAN_PORT, b""), "big") == port:
            found.add(number(parts.get(_IFLA_VXLAN_ID, b"")))
    return found


def _vni(home: Home, network: Network, port: int) -> int:
    used = used_vnis(home, port, but=name_of(network))
    if network.options.get(VNI):
        vni = _number(network.options, VNI, _MOST_VNI)
        if vni in used:
            raise AlreadyExistsError(
                f"VNI {vni} is in use on this host",
                hint="choose another with --opt vni=N when the network is made",
            )
        return vni
    while True:
        vni = _LEAST_CHOSEN_VNI + secrets.randbelow(_MOST_VNI - _LEAST_CHOSEN_VNI)
        if vni not in used:
            return vni


def _local(home: Home, given: dict[str, str]) -> tuple[str, Link]:
    wanted = given.get(LOCAL, "")
    if wanted:
        try:
            wanted = str(ip_address(wanted))
        except ValueError:
            raise InvalidArgumentError(f"option {LOCAL} is no address: {wanted[:100]!r}") from None
        return wanted, parent_of(home, wanted)
    parent = given.get(options.PARENT, "")
    if parent:
        return _first_of(home, parent)
    for destination, family in _ELSEWHERE:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # sends nothing
            try:
                probe.connect((destination, 9))
            except OSError:
                continue
            found = str(probe.getsockname()[0])
            return found, parent_of(home, found)
    return _first_of(home, "")


def _first_of(home: Home, parent: str) -> tuple[str, Link]:
    """Return the first address that others can reach, of interface *parent* or of any."""
    for address in addresses.each(home.netlink):
        bare = ip_address(address.address.partition("/")[0])
        link = links.find(home.netlink, address.ifindex)
        if link is None or bare.is_loopback or bare.is_link_local:
            continue
        if link.name == parent or not (parent or ownership.is_an_engine(link.alias)):
            return str(bare), link
    raise InvalidArgumentError(
        f"{parent or 'this host'} has no address that other hosts could reach",
        hint="give it one, or choose one with --opt local=ADDRESS",
    )


def _check_group(group: str, local: str) -> None:
    try:
        address = ip_address(group)
    except ValueError:
        raise InvalidArgumentError(f"option {GROUP} is no address: {group[:100]!r}") from None
    if not address.is_multicast or address.version != ip_address(local).version:
        raise InvalidArgumentError(
            f"option {GROUP} is no multicast address of the same family as {local}: {group}"
        )


def _number(given: dict[str, str], name: str, most: int) -> int:
    text = given.get(name, "")
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= most):
        raise InvalidArgumentError(f"option {name} is no number from 1 to {most}: {text[:50]!r}")
    return int(text)
