"""Processes: clone, pidfds, and the settings of prctl(2)."""

import fcntl
import os
import struct

from orlop.kernel import light_ctypes as ctypes
from orlop.kernel.light_ctypes import c_int, c_size_t, c_uint, c_ulong, c_void_p
from orlop.kernel.syscall import bind, bind_number, by_machine
from orlop.model.light import Iterable, NamedTuple
from orlop.model.light_enum import STRICT, IntFlag


class Clone(IntFlag, boundary=STRICT):
    """Flags of clone3(2) besides the namespaces. <linux/sched.h> CLONE_*."""

    FILES = 0x00000400
    PIDFD = 0x00001000
    PARENT = 0x00008000
    CLEAR_SIGHAND = 0x100000000
    INTO_CGROUP = 0x200000000


class ExitUsage(NamedTuple):
    """The resources that an ended child and its reaped children have used. getrusage(2)."""

    user_us: int
    system_us: int
    peak_bytes: int  # of the largest process, including its size before exec
    read_bytes: int
    written_bytes: int


class Cloned(NamedTuple):
    pid: int  # 0 in the child
    pidfd: int  # -1 in the child


_PIDFD = int(Clone.PIDFD)
_PARENT = int(Clone.PARENT)
_VM, _VFORK, _PARENT_SETTID = 0x00000100, 0x00004000, 0x00100000
_INTO_CGROUP = int(Clone.INTO_CGROUP)
_SIGCHLD = 17
_CLOSE_RANGE_CLOEXEC = 4
_UINT_MAX = 0xFFFFFFFF

_P_PIDFD = 3
_ENDED_AND_LEFT = 0x01000005  # WEXITED, WNOHANG, WNOWAIT
_RUSAGE = struct.Struct("=18q")
_BLOCK_BYTES = 512

# pidfd_info, Linux 6.13; the exit field 6.15. _IOWR(0xFF, 11, 64 bytes)
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO = struct.Struct("=QQ11Ii")

#: A mask for sched_setaffinity(2); the kernel ignores missing processors.
EVERY_PROCESSOR = b"\xff" * 1024

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_clone3 = bind_number("clone3", 435, c_void_p, c_size_t)
_clone = bind_number(
    "clone", by_machine(x86_64=56, aarch64=220), c_ulong, c_void_p, c_void_p, c_void_p, c_void_p
)
_pidfd_open = bind_number("pidfd_open", 434, c_int, c_uint)
_pidfd_send_signal = bind_number("pidfd_send_signal", 424, c_int, c_int, c_void_p, c_uint)
_close_range = bind_number("close_range", 436, c_uint, c_uint, c_uint)
_waitid = bind_number(
    "waitid", by_machine(x86_64=247, aarch64=95), c_int, c_int, c_void_p, c_int, c_void_p
)
_prctl = bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_name = bind("prctl", c_int, ctypes.c_char_p, c_ulong, c_ulong, c_ulong)
_setfsuid = bind_number("setfsuid", by_machine(x86_64=122, aarch64=151), c_int)
_setfsgid = bind_number("setfsgid", by_machine(x86_64=123, aarch64=152), c_int)
_personality = bind("personality", c_ulong)
_ioprio_set = bind_number("ioprio_set", by_machine(x86_64=251, aarch64=30), c_int, c_int, c_int)
_sched_setaffinity = bind_number(
    "sched_setaffinity", by_machine(x86_64=203, aarch64=122), c_int, c_size_t, ctypes.c_char_p
)
_sched_setattr = bind_number(
    "sched_setattr", by_machine(x86_64=314, aarch64=274), c_int, ctypes.c_char_p, c_uint
)


def clone3(flags: int, *, cgroup_fd: int = -1) -> Cloned:
    """Make a child that continues from here, in new namespaces given by *flags*. clone3(2).

    Returns twice. Only for a process without threads: the interpreter is not
    told, no at-fork handler runs, and the child must exec or os._exit(). The
    parent gets the pidfd, close-on-exec. With *cgroup_fd* (an open cgroup v2
    folder) the child is born in that cgroup.
    """
    flags = int(flags) | _PIDFD  # int: an IntFlag refuses the bits of another flag
    if cgroup_fd >= 0:
        flags |= _INTO_CGROUP
    pidfd = ctypes.c_int(-1)
    exit_signal = 0 if flags & _PARENT else _SIGCHLD
    arguments = struct.pack(
        "=11Q",
        flags,
        ctypes.addressof(pidfd),
        *(0, 0, exit_signal, 0, 0, 0, 0, 0),
        max(cgroup_fd, 0),
    )
    pid = _clone3(arguments, len(arguments))
    return Cloned(pid, pidfd.value if pid else -1)


def clone(flags: int, pid: ctypes.c_int, *, cgroup_fd: int = -1) -> bool:
    """Make a child as clone3() does; *pid* is set before the child runs. False in the child.

    Without a cgroup this is clone(2): common filters refuse clone3(2), whose flags they
    cannot read, but allow the older call.
    """
    flags = int(flags) | _PARENT_SETTID
    exit_signal = 0 if flags & _PARENT else _SIGCHLD
    if cgroup_fd >= 0:
        place = ctypes.addressof(pid)
        flags |= _INTO_CGROUP
        arguments = struct.pack("=11Q", flags, 0, 0, place, exit_signal, *([0] * 5), cgroup_fd)
        return bool(_clone3(arguments, len(arguments)))
    return bool(_clone(flags | exit_signal, None, ctypes.addressof(pid), None, None))


def clone_over(flags: int, pid: ctypes.c_int, *, cgroup_fd: int = -1) -> None:
    """Make a child of our own parent in our own memory; only the child returns.

    *pid* is set before the child runs, so a process that shares it learns the pid
    even if the child is frozen, stopped or killed at once.

    The caller would return once the child has ended or executed a program, and must
    not, because the child has used its stack. So hold it (ptrace.hold_after_vfork) or
    kill it before. CLONE_VM, CLONE_VFORK, CLONE_PARENT.

    Raises:
        OSError: no child was made.
    """
    flags = int(flags) | _VM | _VFORK | _PARENT | _PARENT_SETTID
    if cgroup_fd >= 0:
        flags |= _INTO_CGROUP
    pid.value = 0  # touch its page: the kernel would ignore a page fault
    place = ctypes.addressof(pid)
    arguments = struct.pack("=11Q", flags, 0, 0, place, *([0] * 6), max(cgroup_fd, 0))
    _clone3(arguments, len(arguments))


def pidfd_open(pid: int) -> int:
    """Return a descriptor of the process, valid even after its pid is reused."""
    return _pidfd_open(pid, 0)


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Send *signal*; ProcessLookupError once the process has been reaped."""
    _pidfd_send_signal(pidfd, signal, None, 0)


def pidfd_exit_status(pidfd: int) -> int | None:
    """Return the wait status of a process that has been reaped, whoever was its parent.

    None while it runs, or on kernels older than 6.15. PIDFD_GET_INFO.
    """
    request = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *([0] * 13)))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request)
    except OSError:
        return None
    fields = _PIDFD_INFO.unpack(request)
    return int(fields[-1]) if fields[0] & _PIDFD_INFO_EXIT else None


def exit_usage(pidfd: int) -> ExitUsage:
    """Return the resources used by our ended child, without reaping it. waitid(2).

    ChildProcessError if it is not our child, or was reaped already.
    """
    counted = ctypes.create_string_buffer(_RUSAGE.size)
    _waitid(_P_PIDFD, pidfd, None, _ENDED_AND_LEFT, ctypes.addressof(counted))
    fields = _RUSAGE.unpack(counted)
    return ExitUsage(
        user_us=fields[0] * 1_000_000 + fields[1],
        system_us=fields[2] * 1_000_000 + fields[3],
        peak_bytes=fields[4] << 10,
        read_bytes=fields[11] * _BLOCK_BYTES,
        written_bytes=fields[12] * _BLOCK_BYTES,
    )


def wait_exit(pidfd: int) -> int:
    """Wait for our child and reap it; return its exit code, or 128 plus the signal.

    ChildProcessError if it is not our child, or was reaped already.
    """
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert result is not None  # only WNOHANG returns None
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from *first* up close-on-exec. close_range(2), Linux 5.11."""
    _close_range(first, _UINT_MAX, _CLOSE_RANGE_CLOEXEC)


def close_all_but(wanted: Iterable[int], *, first: int) -> None:
    """Close every descriptor from *first* up except the *wanted* ones. close_range(2)."""
    for fd in sorted(fd for fd in wanted if fd >= first):
        if fd > first:
            _close_range(first, fd - 1, 0)
        first = fd + 1
    _close_range(first, _UINT_MAX, 0)


def set_parent_death_signal(signal: int) -> None:
    """Receive *signal* when the parent dies; 0 for none. PR_SET_PDEATHSIG."""
    _prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0)


def set_dumpable(*, dumpable: bool) -> None:
    """Set whether others may trace us and read our memory; exec resets it. PR_SET_DUMPABLE."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)


def set_keep_capabilities(*, keep: bool) -> None:
    """Keep the permitted set when the user changes from 0, or not. PR_SET_KEEPCAPS."""
    _prctl(_PR_SET_KEEPCAPS, int(keep), 0, 0, 0)


def set_name(name: str) -> None:
    """Set the thread's name, at most 15 bytes. PR_SET_NAME."""
    _prctl_name(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def set_child_subreaper() -> None:
    """Become the parent of orphaned descendants. PR_SET_CHILD_SUBREAPER."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_no_new_privileges() -> None:
    """Gain no privileges by exec any more, for ever. PR_SET_NO_NEW_PRIVS."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def set_file_ids(user: int, group: int) -> None:
    """Set the owner of files that this thread makes. Needs CAP_SETUID, CAP_SETGID; setfsuid(2).

    Changing to 0 makes the permitted capabilities about files effective.
    """
    for call, number in ((_setfsgid, group), (_setfsuid, user)):
        call(number)
        if call(number) != number:  # the kernel always returns the previous id
            raise PermissionError(f"the files' owner cannot be {number}")


def personality(persona: int) -> None:
    """Set the execution domain. personality(2)."""
    _personality(persona)


def set_io_priority(priority_class: int, level: int) -> None:
    """Set our I/O class (1 real-time, 2 best effort, 3 idle) and level. ioprio_set(2)."""
    _ioprio_set(1, 0, priority_class << 13 | level)


def reset_affinity() -> None:
    """Run on every processor that our cgroup allows. sched_setaffinity(2)."""
    _sched_setaffinity(0, len(EVERY_PROCESSOR), EVERY_PROCESSOR)


def set_scheduler(
    policy: int, *, flags: int, nice: int, priority: int, deadline: tuple[int, int, int]
) -> None:
    """Set our scheduling; *deadline* is runtime, deadline and period in ns. sched_setattr(2)."""
    attributes = struct.pack("=IIQiIQQQ", 48, policy, flags, nice, priority, *deadline)
    _sched_setattr(0, attributes, 0)
