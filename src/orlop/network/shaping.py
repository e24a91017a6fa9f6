"""Limits of what a container receives and sends, both set on the host's end of its link.

What it receives waits in the queue of the host's end. What it sends arrives there, and
is led through an interface of its own (ifb) in whose queue it waits: a queue at the
container's end could be taken away by a container with CAP_NET_ADMIN.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack, suppress

from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.kernel.netlink import links, qdiscs
from orlop.kernel.netlink.links import Settings
from orlop.kernel.netlink.qdiscs import Rate
from orlop.kernel.netlink.wire import Request
from orlop.network import ownership
from orlop.network.namespace import Home
from orlop.network.refusal import refusals

TYPE_CHECKING = False  # a program that starts often brings plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Bandwidth, Endpoint

_LEAST_BPS = 8 * 1024
_LATENCY_S = 0.025  # that a packet may wait; what comes when the queue is full is dropped
_LEAST_BURST_BYTES = 16 * 1024
_BURST_S = 0.01
_NOTHING = frozenset((errno.ENOENT, errno.EINVAL))


def limit(home: Home, engine: str, endpoint: Endpoint) -> None:
    """Make the limits of an attached endpoint be what it says; none where it says none."""
    name, bandwidth = ownership.veth_name(endpoint), endpoint.bandwidth
    check(bandwidth)
    with refusals(f"limit the bandwidth of {endpoint.interface}", lacking="sch_tbf or ifb"):
        link = links.find(home.netlink, name)
        if link is None:
            raise NotFoundError(f"{endpoint.interface} is not attached")
        received = _rate(bandwidth.ingress_bps, bandwidth.ingress_burst_bits, link.mtu)
        sent = _rate(bandwidth.egress_bps, bandwidth.egress_burst_bits, link.mtu)
        if received is None:
            _quietly(home, qdiscs.lift(link.ifindex, name))
        else:
            home.netlink.ask(qdiscs.limit(link.ifindex, received, name))
        if sent is None:
            lift_sent(home, endpoint)
        else:
            _limit_sent(home, engine, endpoint, link, sent)


def lift_sent(home: Home, endpoint: Endpoint) -> None:
    """Remove the interface in which sent packets wait; also after the container's end."""
    shaper = links.find(home.netlink, ownership.shaper_name(endpoint))
    if shaper is None:
        return
    link = links.find(home.netlink, ownership.veth_name(endpoint))
    if link is not None:
        _quietly(home, qdiscs.stop_redirecting(link.ifindex, link.name))
    with suppress(OSError):
        home.netlink.ask(links.remove(shaper.ifindex))


def check(bandwidth: Bandwidth) -> None:
    """InvalidArgumentError for a limit that nothing would get through."""
    for rate in (bandwidth.ingress_bps, bandwidth.egress_bps):
        if rate and rate < _LEAST_BPS:
            raise InvalidArgumentError(
                f"a bandwidth of {rate} bits a second is too little", hint=f"at least {_LEAST_BPS}"
            )
    bursts = (bandwidth.ingress_burst_bits, bandwidth.egress_burst_bits)
    if any(burst < 0 for burst in bursts):
        raise InvalidArgumentError("a burst cannot be negative")


def _limit_sent(home: Home, engine: str, endpoint: Endpoint, link: links.Link, rate: Rate) -> None:
    name = ownership.shaper_name(endpoint)
    with ExitStack() as undo:
        shaper = links.find(home.netlink, name)
        if shaper is None:
            alias = Settings(alias=ownership.alias(engine, endpoint.container), up=True)
            undo.callback(lift_sent, home, endpoint)
            make = links.make("ifb", b"", Settings(name=name, mtu=link.mtu, queues=1))
            *_, answer = home.netlink.ask(make, links.change(name, alias), links.look(name))
            shaper = links.read(answer)
        home.netlink.ask(qdiscs.limit(shaper.ifindex, rate, name))
        if "ingress" not in qdiscs.kinds(home.netlink, link.ifindex):
            home.netlink.ask(*qdiscs.redirect(link.ifindex, shaper.ifindex, link.name))
        undo.pop_all()


def _rate(bits_s: int, burst_bits: int, mtu: int) -> Rate | None:
    if not bits_s:
        return None
    bytes_s = bits_s // 8
    burst = burst_bits // 8 or max(int(bytes_s * _BURST_S), _LEAST_BURST_BYTES)
    burst = max(burst, mtu + 64)  # less than a packet would let none through, ever
    return Rate(bytes_s, burst, burst + max(int(bytes_s * _LATENCY_S), mtu + 64))


def _quietly(home: Home, request: Request) -> None:
    try:
        home.netlink.ask(request)
    except OSError as error:
        if error.errno not in _NOTHING:
            raise
