"""Capabilities: their names and the calls that set the five sets. capabilities(7)."""

import struct

from orlop.kernel import light_ctypes as ctypes
from orlop.kernel.light_ctypes import c_char_p, c_int, c_ulong
from orlop.kernel.syscall import bind
from orlop.model.light import Iterable
from orlop.model.light_context import cache

#: Bit by bit, <linux/capability.h>.
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

BIT = {name: bit for bit, name in enumerate(NAMES)}

_SYS_ADMIN = 1 << BIT["CAP_SYS_ADMIN"]
_VERSION_3 = 0x20080522
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_AMBIENT_RAISE = 2
_AMBIENT_CLEAR_ALL = 4
_DATA = struct.Struct("=6I")

_capset = bind("capset", c_char_p, c_char_p)
_capget = bind("capget", c_char_p, c_char_p)
_prctl = bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)


def mask(names: Iterable[str]) -> int:
    """Return the bits of *names*; unknown names have no bit."""
    bits = 0
    for name in names:
        if (bit := BIT.get(name)) is not None:
            bits |= 1 << bit
    return bits


def capget() -> tuple[int, int, int]:
    """Return our effective, permitted and inheritable sets."""
    data = ctypes.create_string_buffer(_DATA.size)
    _capget(struct.pack("=Ii", _VERSION_3, 0), data)
    low_e, low_p, low_i, high_e, high_p, high_i = _DATA.unpack(data)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set our three sets. capset(2)."""
    low = 0xFFFFFFFF
    data = _DATA.pack(
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    _capset(struct.pack("=Ii", _VERSION_3, 0), data)


def is_ordinary() -> bool:
    """Whether we lack CAP_SYS_ADMIN, so that we can neither mount nor join namespaces."""
    return not capget()[0] & _SYS_ADMIN


def bounding() -> int:
    """Return our bounding set."""
    bits = 0
    for bit in range(supported().bit_length()):
        bits |= _prctl(_PR_CAPBSET_READ, bit, 0, 0, 0) << bit
    return bits


@cache
def supported() -> int:
    """Return every capability that both this kernel and our table know."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        last = int(file.read())
    return (1 << min(last + 1, len(NAMES))) - 1


def drop_bounding(bits: int) -> None:
    """Remove *bits* from our bounding set, for ever. Needs CAP_SETPCAP."""
    for bit in range(len(NAMES)):
        if bits >> bit & 1:
            _prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)


def set_ambient(bits: int) -> None:
    """Make *bits* our ambient set; each must be permitted and inheritable."""
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    for bit in range(len(NAMES)):
        if bits >> bit & 1:
            _prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, bit, 0, 0)
