"""What a program finds out about itself and its surroundings. Runs in sandboxes; prints JSON."""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import socket
import stat
import struct
import sys
from collections.abc import Callable
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_STATUS = (
    *("Umask", "Uid", "Gid", "Groups", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "NoNewPrivs"),
    *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "Seccomp_filters"),
)
_NUMBERS = {"unshare": 272, "mount": 165, "keyctl": 250, "bpf": 321, "ptrace": 101, "setns": 308}
_PR_GET = {"pdeathsig": 2, "dumpable": 3, "keepcaps": 7, "securebits": 27, "timerslack": 30}
_GUARDED = (
    *("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"),
    *("/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/asound"),
)
_WRITTEN = (
    *("/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/sys/net/ipv4/ip_forward"),
    *("/sys/class/net/lo/mtu", "/proc/bus", "/proc/self/comm", "/dev/null", "/dev/full", "/dev"),
    *("/", "/tmp", "/etc", "/usr", "/root", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"),
)
_FOLDERS = ("/", "/tmp", "/srv", "/root", "/new", "/new/one", "/no", "/no/such", "/mounted")


def _refusal(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return str(error.errno)
    return "done"


def _call(number: int, *arguments: int) -> str:
    found = _libc.syscall(number, *arguments)
    return str(ctypes.get_errno()) if found < 0 else "done"


def _status(text: str) -> dict[str, str]:
    """Return what a shell has told of itself: an interpreter has signals of its own."""
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return {name: fields[name].strip() for name in _STATUS}


def _mounts() -> list[Any]:
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, after = line.rstrip("\n").split(" - ")
            _, _, _, root, target, options, *tags = before.split()
            fstype, source, super_options = after.split()
            kinds = sorted(tag.split(":")[0] for tag in tags)
            found.append([target, fstype, source, root, options, kinds, super_options])
    return found


def _descriptors() -> dict[str, Any]:
    found = {}
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        with contextlib.suppress(OSError):
            status, flags = os.fstat(int(name)), fcntl.fcntl(int(name), fcntl.F_GETFL)
            kind = stat.S_IFMT(status.st_mode)
            found[name] = [oct(kind), oct(flags & os.O_ACCMODE), status.st_uid]
    return found


def _files(*paths: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError as error:
            found[path] = error.errno
            continue
        found[path] = [oct(status.st_mode), status.st_uid, status.st_gid, status.st_rdev]
        if stat.S_ISLNK(status.st_mode):
            found[path].append(os.readlink(path))
    return found


def _text(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read(65536)
    except OSError as error:
        return f"errno {error.errno}"


def _write(path: str) -> str:
    if os.path.isdir(path):
        made = os.path.join(path, "orlop-probe")
        refused = _refusal(lambda: os.mkdir(made))
        with contextlib.suppress(OSError):
            os.rmdir(made)
        return refused
    return _refusal(lambda: os.close(os.open(path, os.O_WRONLY)))


def _socket(family: int, kind: int) -> str:
    return _refusal(lambda: socket.socket(family, kind).close())


def _tree(folder: str) -> dict[str, str]:
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            found[path] = _text(path)
    return found


def _prctl() -> dict[str, int]:
    found = {}
    for name, option in _PR_GET.items():
        value = ctypes.c_int(-1)
        result = _libc.prctl(option, ctypes.byref(value), 0, 0, 0)
        found[name] = value.value if name == "pdeathsig" else result
    return found


def _interfaces() -> list[str]:
    flags = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            request = struct.pack("16s16x", name.encode())
            answer = fcntl.ioctl(asked, 0x8913, request)
            flags.append(f"{name} {struct.unpack_from('H', answer, 16)[0]:x}")
    return flags


def look(status: str) -> dict[str, Any]:
    """Return everything, in words that JSON has."""
    return {
        "status": _status(status),
        "limits": {n: resource.getrlimit(n) for n in range(16)},
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "descriptors": _descriptors(),
        "mounts": _mounts(),
        "namespaces": {n: os.readlink(f"/proc/self/ns/{n}") for n in os.listdir("/proc/self/ns")},
        "cgroup": _text("/proc/self/cgroup").splitlines(),
        "devices": _files(*(f"/dev/{name}" for name in sorted(os.listdir("/dev")))),
        "guarded": {p: [_files(p), _guarded(p)] for p in _GUARDED},
        "written": {path: _write(path) for path in _WRITTEN},
        "names": {p: _text(p) for p in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")},
        "their files": _files("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", *_FOLDERS),
        "host": [os.uname().nodename, _text("/proc/sys/kernel/domainname")],
        "oom": _text("/proc/self/oom_score_adj"),
        "session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
        "terminal": _refusal(lambda: os.close(os.open("/dev/tty", os.O_RDWR))),
        "process": _prctl(),
        "scheduler": [os.getpriority(0, 0), os.sched_getscheduler(0), len(os.sched_getaffinity(0))],
        "calls": {name: _call(number, 0, 0, 0, 0, 0) for name, number in _NUMBERS.items()},
        "user namespace": _call(_NUMBERS["unshare"], 0x10000000),
        "sockets": {
            "alg": _socket(38, socket.SOCK_SEQPACKET),
            "vsock": _socket(40, socket.SOCK_STREAM),
            "packet": _socket(17, socket.SOCK_RAW),
            "raw": _socket(socket.AF_INET, socket.SOCK_RAW),
        },
        "interfaces": _interfaces(),
        "parameters": {**_tree("/proc/sys/net"), **_tree("/proc/sys/fs/mqueue")},
        "cgroup files": sorted(os.listdir("/sys/fs/cgroup")),
        "loginuid": _text("/proc/self/loginuid"),
        "coredump": _text("/proc/self/coredump_filter"),
    }


def _guarded(path: str) -> str:
    if os.path.isdir(path):
        return repr(sorted(os.listdir(path)))
    text = _text(path)
    return text if text.startswith("errno") else f"{bool(text)}"


if __name__ == "__main__":
    json.dump(look(sys.argv[1]), sys.stdout)
