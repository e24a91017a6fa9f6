"""File systems of type proc that show a pid namespace in which we are not.

The kernel takes the pid namespace of whoever calls fsopen(2), who needs CAP_SYS_ADMIN for it.
A process in another's pid namespace can be traced there, so one is sent that can do, and has,
nothing else:

    we                          maker                             inside
      | clone3 ------------------>| joins the pid namespace
      |                           | enters an empty root, closes all,
      |                           | loads a filter
      |                           | clone, CLONE_PARENT --------->| fsopen
      |<--- contexts (SCM_RIGHTS) --------------------------------| _exit
"""

from __future__ import annotations

import errno
import os
import signal

from orlop.kernel import capabilities, rights, seccomp
from orlop.kernel.memory import shared_number
from orlop.kernel.mount import fsopen
from orlop.kernel.namespaces import Namespace, setns
from orlop.kernel.patience import is_readable
from orlop.kernel.process import (
    Clone,
    clone,
    clone3,
    close_all_but,
    pidfd_open,
    pidfd_send_signal,
    set_dumpable,
    set_parent_death_signal,
)
from orlop.model.light import TYPE_CHECKING, NoReturn
from orlop.model.light_context import ExitStack, suppress
from orlop.model.oci import Seccomp
from orlop.runtime import seccomp as policies
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import Options

if TYPE_CHECKING:
    import _socket
    import ctypes

_SIGKILL = int(signal.SIGKILL)
_SYS_ADMIN = 1 << capabilities.BIT["CAP_SYS_ADMIN"]
_PATIENCE_S = 2.0
_ONLY_CONTEXTS: Seccomp = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [
        {
            "names": [
                *("fsopen", "sendmsg", "clone", "close", "exit_group"),
                *("brk", "mmap", "munmap", "madvise", "futex", "rt_sigreturn"),  # Python's
            ],
            "action": "SCMP_ACT_ALLOW",
        }
    ],
}


def open_contexts(namespace: int, count: int) -> list[int]:
    """Return *count* descriptors of fsopen(2) for proc, of the pid namespace *namespace*.

    OSError with the reason, ETIMEDOUT where those inside stop or freeze who is sent.
    """
    allowed, made = policies.compile(_ONLY_CONTEXTS), shared_number()
    near, far = rights.pair()
    with ExitStack() as ours:
        ours.callback(near.close)
        ours.callback(far.close)
        maker = clone3(int(Clone.CLEAR_SIGHAND))
        if not maker.pid:
            _send(namespace, count, allowed, made, far)
        far.close()
        os.waitid(os.P_PIDFD, maker.pidfd, os.WEXITED)
        os.close(maker.pidfd)
        if not made.value:
            raise OSError(int(near.recv(16) or errno.ECANCELED), "the pid namespace is not joined")
        inside = pidfd_open(made.value)
        ours.callback(_end, inside)
        with ExitStack() as undo:
            contexts = []
            for _ in range(count):
                contexts.append(_next(near))
                undo.callback(os.close, contexts[-1])
            undo.pop_all()
        return contexts


def _next(near: _socket.socket) -> int:
    context = None
    if is_readable(near.fileno(), timeout_s=_PATIENCE_S):
        context = rights.receive_descriptor(near)
    if context is None:
        raise OSError(errno.ETIMEDOUT, "others in the pid namespace that it joins stop its process")
    return context


def _end(inside: int) -> None:
    with suppress(ProcessLookupError):
        pidfd_send_signal(inside, _SIGKILL)
    os.waitid(os.P_PIDFD, inside, os.WEXITED)
    os.close(inside)


def _send(
    namespace: int, count: int, allowed: policies.Filter, made: ctypes.c_int, far: _socket.socket
) -> NoReturn:
    """Be the maker, and in its child the one inside."""
    try:
        set_parent_death_signal(_SIGKILL)
        set_dumpable(dumpable=False)
        os.fchdir(filesystem("tmpfs", "tmpfs", Options()))
        os.chroot(".")
        setns(namespace, Namespace.PID)
        for number in range(3):
            os.dup2(far.fileno(), number)
        close_all_but({far.fileno()}, first=3)
        capabilities.capset(_SYS_ADMIN, _SYS_ADMIN, 0)
        seccomp.load(allowed.program, allowed.flags)
        if not clone(int(Clone.PARENT), made):
            for _ in range(count):
                rights.send_descriptor(far, fsopen("proc"), b"proc")
    except OSError as error:
        far.sendmsg([str(error.errno).encode()])
    finally:
        os._exit(0)
