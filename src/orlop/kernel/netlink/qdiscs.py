"""Queueing disciplines: rate limits. rtnetlink(7), tc(8), <linux/pkt_sched.h>."""

from __future__ import annotations

import struct
import sys

from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.wire import (
    CREATE,
    PLAIN,
    REPLACE,
    Request,
    attribute,
    attributes,
    nested,
    string,
    text,
    u32,
)
from orlop.model.light import NamedTuple

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC, _RTM_NEWTFILTER = 36, 37, 38, 44
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_TBF_PARMS, _TCA_TBF_RATE64, _TCA_TBF_BURST = 1, 4, 6
_TCA_U32_SEL, _TCA_U32_ACT = 5, 7
_TCA_ACT_KIND, _TCA_ACT_OPTIONS = 1, 2
_TCA_MIRRED_PARMS = 2
_TCA_EGRESS_REDIR, _TC_ACT_STOLEN = 1, 4
_TC_U32_TERMINAL = 1
_TC_H_ROOT, _TC_H_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
_INGRESS_HANDLE = 0xFFFF0000
_ROOT_HANDLE = 0x00010000
_PRIORITY = 1
_ETH_P_ALL = 3
_TICK_NS = 64  # PSCHED_SHIFT 6
_MOST_U32 = 0xFFFFFFFF

_TC = struct.Struct("=BxxxiIII")  # tcmsg: family, index, handle, parent, info
_RATE = struct.Struct("=BBHhHI")  # tc_ratespec: log, link layer, overhead, align, size, rate
_TBF = struct.Struct(f"={_RATE.size}s{_RATE.size}sIII")  # rate, peak, limit, buffer, mtu
_SELECTOR = struct.Struct("=BBBBHHhhI")  # tc_u32_sel without keys
_KEY = struct.Struct("=IIii")  # mask, value, offset, mask of the offset
_MIRRED = struct.Struct("=IIiiiiI")  # tc_gen (index, capab, action, refs, binds), action, device


class Rate(NamedTuple):
    """Bytes per second, with *burst_bytes* at once; at most *queue_bytes* wait."""

    bytes_s: int
    burst_bytes: int
    queue_bytes: int


def limit(index: int, rate: Rate, what: str) -> Request:
    """Limit the rate at which interface *index* sends, replacing an earlier limit."""
    spec = _RATE.pack(0, 1, 0, -1, 0, min(rate.bytes_s, _MOST_U32))
    ticks = min(rate.burst_bytes * 1_000_000_000 // rate.bytes_s // _TICK_NS, _MOST_U32)
    fields = _TBF.pack(spec, bytes(_RATE.size), min(rate.queue_bytes, _MOST_U32), ticks, 0)
    parts = [attribute(_TCA_TBF_PARMS, fields), u32(_TCA_TBF_BURST, rate.burst_bytes)]
    if rate.bytes_s > _MOST_U32:
        parts.append(attribute(_TCA_TBF_RATE64, struct.pack("=Q", rate.bytes_s)))
    body = _TC.pack(0, index, _ROOT_HANDLE, _TC_H_ROOT, 0)
    body += string(_TCA_KIND, "tbf") + nested(_TCA_OPTIONS, *parts)
    return Request(_RTM_NEWQDISC, REPLACE, body, what)


def lift(index: int, what: str) -> Request:
    """Remove the limit of interface *index*; FileNotFoundError or EINVAL if there is none."""
    return Request(_RTM_DELQDISC, PLAIN, _TC.pack(0, index, 0, _TC_H_ROOT, 0), what)


def redirect(index: int, to: int, what: str) -> list[Request]:
    """Send everything that interface *index* receives through interface *to* first."""
    ingress = _TC.pack(0, index, _INGRESS_HANDLE, _TC_H_INGRESS, 0) + string(_TCA_KIND, "ingress")
    everything = _SELECTOR.pack(_TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0, 0) + _KEY.pack(0, 0, 0, 0)
    mirred = _MIRRED.pack(0, 0, _TC_ACT_STOLEN, 0, 0, _TCA_EGRESS_REDIR, to)
    action = nested(
        1,
        string(_TCA_ACT_KIND, "mirred"),
        nested(_TCA_ACT_OPTIONS, attribute(_TCA_MIRRED_PARMS, mirred)),
    )
    options = attribute(_TCA_U32_SEL, everything) + nested(_TCA_U32_ACT, action)
    protocol = int.from_bytes(struct.pack(">H", _ETH_P_ALL), sys.byteorder)
    head = _TC.pack(0, index, 0, _INGRESS_HANDLE, _PRIORITY << 16 | protocol)
    body = head + string(_TCA_KIND, "u32") + nested(_TCA_OPTIONS, options)
    return [
        Request(_RTM_NEWQDISC, CREATE, ingress, what),
        Request(_RTM_NEWTFILTER, CREATE, body, what),
    ]


def stop_redirecting(index: int, what: str) -> Request:
    body = _TC.pack(0, index, _INGRESS_HANDLE, _TC_H_INGRESS, 0)
    return Request(_RTM_DELQDISC, PLAIN, body, what)


def kinds(netlink: Netlink, index: int) -> set[str]:
    """Return the kinds of queue of interface *index*: "tbf", "ingress", "noqueue"."""
    answers = netlink.dump(_RTM_GETQDISC, _TC.pack(0, index, 0, 0, 0), "queues")
    found = set()
    for answer in answers:
        if _TC.unpack_from(answer)[1] == index:
            found.add(text(attributes(answer, _TC.size).get(_TCA_KIND, b"")))
    return found
