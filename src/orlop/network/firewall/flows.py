"""Make conntrack forget UDP flows, which have no end: packets keep the first packet's route.

So a client that used a port before it was published continues to reach the host, and one
that used it before it was withdrawn continues to reach the container's address, whoever has
that by then, until it pauses. Such flows are forgotten here.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from orlop.kernel.conntrack import Conntrack, Flow
from orlop.kernel.netlink import addresses
from orlop.kernel.netlink.connection import Netlink
from orlop.network.firewall.state import PublishedPort

_MOST_WALKS = 32  # of the kernel through its table: with more ports one walk of ours is cheaper


def forget_unpublished(ports: Iterable[PublishedPort]) -> None:
    """Forget flows to this host itself by *ports*, which are now published."""
    own: set[str] = set()

    def is_stale(flow: Flow, port: PublishedPort) -> bool:
        if flow.answering == port.address or flow.destination != flow.answering:
            return False
        if not own:
            own.update(_own_addresses())
        host = ipaddress.ip_address(port.host_ip)
        is_ours = flow.destination in own or ipaddress.ip_address(flow.destination).is_loopback
        return is_ours and (host.is_unspecified or str(host) == flow.destination)

    _forget(ports, is_stale)


def forget_published(ports: Iterable[PublishedPort]) -> None:
    """Forget flows to containers by *ports*, which are no longer published.

    There may be very many of them, and checking each one would take seconds.
    """
    _forget(
        _not_forgotten_in_one_go(port for port in ports if port.protocol == "udp"),
        lambda flow, port: (
            (flow.answering, flow.answering_port) == (port.address, port.container_port)
            and flow.destination != port.address
        ),
    )


def forget_addresses(addresses: Iterable[str]) -> None:
    """Forget every flow of these IPv4 addresses, which others will get.

    OSError if the kernel does not support it: before Linux 6.11.
    """
    try:
        conntrack = Conntrack()
    except OSError:  # a kernel without conntrack has nothing to forget
        return
    with conntrack:
        for address in addresses:
            conntrack.forget_address(address)


def _not_forgotten_in_one_go(ports: Iterable[PublishedPort]) -> list[PublishedPort]:
    """Forget the flows by *ports* if the kernel can do it at once; return the other ports."""
    left = list(ports)
    four = [port for port in left if ":" not in port.address]
    if 0 < len(four) <= _MOST_WALKS:
        with suppress(OSError), Conntrack() as conntrack:
            for port in four:
                answering = (port.address, port.container_port)
                conntrack.forget_all(socket.IPPROTO_UDP, port.host_port, answering)
                left.remove(port)
    return left


def _forget(
    ports: Iterable[PublishedPort], is_stale: Callable[[Flow, PublishedPort], bool]
) -> None:
    udp: dict[int, dict[int, list[PublishedPort]]] = {}  # by family and the host's port
    for port in ports:
        if port.protocol == "udp":
            family = int(socket.AF_INET6 if ":" in port.address else socket.AF_INET)
            udp.setdefault(family, {}).setdefault(port.host_port, []).append(port)
    if not udp:
        return
    with suppress(OSError), Conntrack() as conntrack:  # a kernel without conntrack's netlink
        for family, wanted in udp.items():
            only = next(iter(wanted)) if len(wanted) == 1 else None
            for flow in conntrack.flows(family, socket.IPPROTO_UDP, only):
                if any(is_stale(flow, port) for port in wanted.get(flow.destination_port, ())):
                    conntrack.forget(flow)


def _own_addresses() -> list[str]:
    with Netlink() as netlink:
        return [one.address.partition("/")[0] for one in addresses.each(netlink)]
