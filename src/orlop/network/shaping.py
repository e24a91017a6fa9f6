"""Bandwidth limits for what a container receives and sends, both at the host's end.

Incoming traffic waits in the queue of the host's end. Outgoing traffic arrives there and is
redirected through an interface (ifb), in whose queue it waits: a container with CAP_NET_ADMIN
could remove a queue at its own end.
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

TYPE_CHECKING = False  # programs that start often pass plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Bandwidth, Endpoint

_LEAST_BPS = 8 * 1024
_LATENCY_S = 0.025  # the longest wait of a packet; packets for a full queue are dropped
_LEAST_BURST_BYTES = 16 * 1024
_BURST_S = 0.01
_NOTHING = frozenset((errno.ENOENT, errno.EINVAL))


def limit(home: Home, engine: str, endpoint: Endpoint) -> None:
    """Set or remove the limits of an attached endpoint, as in *endpoint*."""
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
    """Remove the interface with the queue of outgoing packets; also after the container's end."""
    shaper = links.find(home.netlink, ownership.shaper_name(endpoint))
    if shaper is None:
        return
    link = links.find(home.netlink, ownership.veth_name(endpoint))
    if link is not None:
        _quietly(home, qdiscs.stop_redirecting(link.ifindex, link.name))
    with suppress(OSError):
        home.netlink.ask(links.remove(shaper.ifindex))


def check(bandwidth: Bandwidth) -> None:
    """Raise InvalidArgumentError for a limit that lets nothing through."""
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
    burst = max(burst, mtu + 64)  # with less than a packet nothing would ever pass
    return Rate(bytes_s, burst, burst + max(int(bytes_s * _LATENCY_S), mtu + 64))


def _quietly(home: Home, request: Request) -> None:
    try:
        home.netlink.ask(request)
    except OSError as error:
        if error.errno not in _NOTHING:
            raise
