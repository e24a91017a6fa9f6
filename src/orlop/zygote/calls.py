"""Linux calls that Python lacks, at least before 3.12."""

from __future__ import annotations

import ctypes
import os

NEWNS = 0x00020000
NEWCGROUP = 0x02000000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWPID = 0x20000000
NEWNET = 0x40000000

RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
REMOUNT = 0x20
BIND = 0x1000
REC = 0x4000
PRIVATE = 0x40000

_DETACH = 2
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITIES_V3 = 0x20080522
_PIDFD_OPEN = 434  # the same on every architecture

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _call(name: str, *arguments: object, path: str | None = None) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", path)
    return result


def unshare(flags: int) -> None:
    _call("unshare", ctypes.c_int(flags))


def setns(fd: int, flags: int) -> None:
    _call("setns", ctypes.c_int(fd), ctypes.c_int(flags))


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    texts = (os.fsencode(source), os.fsencode(target), kind.encode())
    extra = ctypes.c_char_p(data.encode()) if data else None
    _call("mount", *texts, ctypes.c_ulong(flags), extra, path=target)


def unmount(target: str) -> None:
    """Take the mount at *target* away, with all below it, even where it is in use."""
    _call("umount2", os.fsencode(target), ctypes.c_int(_DETACH), path=target)


def pivot_root(new: str, old: str) -> None:
    _call("pivot_root", os.fsencode(new), os.fsencode(old), path=new)


def pidfd_open(pid: int) -> int:
    return _call("syscall", ctypes.c_long(_PIDFD_OPEN), ctypes.c_long(pid), ctypes.c_long(0))


def set_dumpable(value: bool) -> None:  # noqa: FBT001 - as prctl(2) has it
    """Say whether others of our user may trace us and read our memory. PR_SET_DUMPABLE."""
    _prctl(_PR_SET_DUMPABLE, int(value))


def drop_bounding() -> None:
    """Give up every capability for all programs to come. Needs CAP_SETPCAP."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for number in range(last + 1):
        _prctl(_PR_CAPBSET_DROP, number)


def drop_capabilities() -> None:
    """Give up our own; no_new_privs, so that nothing gives them back."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def load_filter(program: bytes) -> None:
    """Install the seccomp filter *program*; needs no_new_privs."""
    wanted = _Program(len(program) // 8, program)
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    _call("prctl", ctypes.c_int(_PR_SET_SECCOMP), mode, ctypes.byref(wanted))


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)
