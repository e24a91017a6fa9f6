"""Hold a process of our own in the kernel. ptrace(2)."""

import ctypes

from orlop.kernel.syscall import bind

_SEIZE = 0x4206
_TRACE_VFORK_DONE = 0x00000020
_EXIT_KILL = 0x00100000

_ptrace = bind(
    "ptrace", ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, restype=ctypes.c_long
)


def hold_after_vfork(pid: int) -> None:
    """Keep process *pid* from returning from a clone3 with Clone.VFORK: it stops there, for ever.

    We become its tracer; it dies with us. PTRACE_SEIZE, PTRACE_O_TRACEVFORKDONE.
    """
    _ptrace(_SEIZE, pid, None, _TRACE_VFORK_DONE | _EXIT_KILL)
