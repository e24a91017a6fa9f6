"""The first process of a pid namespace that several containers share.

It does nothing: the kernel reaps orphans by itself, because the process ignores their ends. It is
nobody, without capabilities, in an empty root; its program is 9 to 28 bytes of machine code.
"""

import os
import signal
from collections.abc import Mapping
from typing import NoReturn

from orlop.errors import UnavailableError
from orlop.kernel.capabilities import drop_bounding, supported
from orlop.kernel.namespaces import Namespace, setns
from orlop.kernel.patience import is_readable
from orlop.kernel.process import (
    Clone,
    clone3,
    close_all_but,
    set_no_new_privileges,
)
from orlop.runtime.spaces import keep_only_tmpfs

_NOBODY = 65534
_ROOT_BYTES = 4096
_READY_S = 10.0
_MOST_REPORT = 500
_KINDS = {"network": Namespace.NET, "ipc": Namespace.IPC, "uts": Namespace.UTS}
_BASE = 0x400000
_HEADERS = 64 + 56
#: ELF's number of the machine, and pause(2) or ppoll(2) for ever.
_PROGRAMS = {
    "x86_64": (62, bytes.fromhex("b8220000000f05ebf7")),
    "aarch64": (
        183,
        b"".join(
            word.to_bytes(4, "little")
            for word in (
                *(0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003),  # x0 to x3 are 0
                *(0xD2800928, 0xD4000001, 0x17FFFFFA),  # x8 is 73; svc 0; back to the beginning
            )
        ),
    ),
}


def begin(namespaces: Mapping[str, int]) -> tuple[int, int]:
    """Start it in *namespaces*; return its pidfd and its pid namespace. The caller closes both.

    Only for a process without threads. It lives until it is killed. UnavailableError if it
    cannot be.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        child = clone3(int(Namespace.PID | Namespace.MOUNT) | int(Clone.CLEAR_SIGHAND))
        if child.pid == 0:
            _become(namespaces, writing)
        os.close(writing)
        writing = -1
        try:
            _await(reading)
            return child.pidfd, os.open(f"/proc/{child.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            os.close(child.pidfd)
            raise
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _await(report: int) -> None:
    """Wait until the program runs."""
    is_over = is_readable(report, timeout_s=_READY_S)
    why = os.read(report, _MOST_REPORT).decode() if is_over else "it takes too long"
    if why:
        raise UnavailableError(f"a pod's first process cannot be started: {why}")


def _become(namespaces: Mapping[str, int], report: int) -> NoReturn:
    """Turn this process into it; *report* gets what is wrong."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for kind, fd in namespaces.items():
            setns(fd, _KINDS[kind])
        capabilities = supported()
        keep_only_tmpfs(_ROOT_BYTES)
        program = _program()
        nowhere = os.open("/", os.O_RDONLY)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        close_all_but((report, program), first=3)
        set_no_new_privileges()
        drop_bounding(capabilities)
        os.setgroups(())
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        os.execve(program, ["pause"], {})
    except BaseException as error:
        os.write(report, str(error).encode()[:_MOST_REPORT] or b"it is not known why")
    finally:
        os._exit(1)


def _program() -> int:
    """Return a descriptor of the program."""
    machine, code = _PROGRAMS[os.uname().machine]
    size = _HEADERS + len(code)
    elf = b"\x7fELF\2\1\1" + bytes(9)  # 64 bits, little endian
    kind = ((2, 2), (machine, 2), (1, 4), (_BASE + _HEADERS, 8), (64, 8), (0, 8), (0, 4))
    sizes = ((64, 2), (56, 2), (1, 2), (0, 2), (0, 2), (0, 2))
    segment = ((1, 4), (5, 4), (0, 8), (_BASE, 8), (_BASE, 8), (size, 8), (size, 8), (4096, 8))
    elf += b"".join(value.to_bytes(width, "little") for value, width in (*kind, *sizes, *segment))
    fd = os.memfd_create("pause", os.MFD_CLOEXEC)
    os.write(fd, elf + code)
    return fd
