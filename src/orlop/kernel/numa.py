"""The memory nodes that a process allocates from. set_mempolicy(2)."""

from collections.abc import Collection
from ctypes import c_char_p, c_int, c_ulong

from orlop.kernel.syscall import bind_number, by_machine

_WORD_BITS = 64

_set_mempolicy = bind_number(
    "set_mempolicy", by_machine(x86_64=238, aarch64=237), c_int, c_char_p, c_ulong
)


def set_memory_policy(mode: int, nodes: Collection[int]) -> None:
    """Set our policy, which exec and fork keep; *mode* is MPOL_* with its flags."""
    if not nodes:
        _set_mempolicy(mode, None, 0)
        return
    bits = sum(1 << node for node in set(nodes))
    size = _WORD_BITS * (bits.bit_length() // _WORD_BITS + 1)
    # The kernel takes one bit less than it is given.
    _set_mempolicy(mode, bits.to_bytes(size // 8, "little"), size + 1)
