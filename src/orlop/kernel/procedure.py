"""A child that carries out a table of system calls, in our memory and without an interpreter.

clone3 with CLONE_VM and CLONE_VFORK copies no page tables and shares every page, so there
are no page faults; we sleep until the child has executed a program or exited. The child has
our stack and locks, so it must not run Python: 150 bytes of machine code walk the table.
x86-64 only. The listing, which tests/unit/kernel/test_procedure.py assembles:

    run:    mov eax, 435            ; clone3(rdi: arguments, rsi: their size)
            syscall
            test rax, rax
            jz child
            ret                     ; parent: the pid, or -errno
    child:  mov r12, rdx            ; the first call
            mov r13, rdx
    next:   mov ebx, [r12+56]       ; flags
            mov rdi, [r12+8]        ; argument 0; if its bit is set, dereference it
            test bl, 1
            jz 1f
            mov rdi, [rdi]
    1:      …                       ; the same for rsi, rdx, r10, r8; r9 is not dereferenced
            mov rax, [r12]
            syscall
            mov [r12+64], rax       ; the result
            cmp rax, -4095
            jb done
            test bl, 64             ; ignore a failure
            jnz done
            test bl, 128            ; a failure skips the next call
            jz failed
            add r12, 72
    done:   add r12, 72
            jmp next
    failed: mov [r13-8], r12        ; which call failed
            mov eax, 60             ; exit(1)
            mov edi, 1
            syscall
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from orlop.errors import UnsupportedError
from orlop.kernel.memory import make_executable

_CODE = bytes.fromhex(
    "b8b30100000f054885c07401c3"
    "4989d44989d5"
    "418b5c2438"
    "498b7c2408f6c3017403488b3f"
    "498b742410f6c3027403488b36"
    "498b542418f6c3047403488b12"
    "4d8b542420f6c30874034d8b12"
    "4d8b442428f6c31074034d8b00"
    "4d8b4c2430"
    "498b0424"
    "0f05"
    "4989442440"
    "483d01f0ffff"
    "720e"
    "f6c340"
    "7509"
    "f6c380"
    "740a"
    "4983c448"
    "4983c448"
    "eb8e"
    "4d8965f8b83c000000bf010000000f05"
)
_WORDS = 9  # per call: number, six arguments, flags, result
_BYTES = 8 * _WORDS
_FLAGS, _RESULT = 7, 8
_MAY_FAIL, _ELSE_SKIP = 64, 128
_WORD = (1 << 64) - 1
_MOST_ARGUMENTS, _MOST_REFERENCES = 6, 5

_VM, _VFORK, _PARENT = 0x100, 0x4000, 0x8000
_PARENT_SETTID, _CLEAR_SIGHAND, _INTO_CGROUP = 0x100000, 0x100000000, 0x200000000
_CLONE_ARGUMENTS = struct.Struct("=11Q")


class Result(NamedTuple):
    """The result of an earlier call, as an argument of a later one."""

    call: int


class Slot(NamedTuple):
    """A named argument that is filled in for each run."""

    name: str


Argument = int | Result | Slot | bytes


class Failure(NamedTuple):
    """Which call failed, and with which errno."""

    call: int
    errno: int


def is_supported() -> bool:
    """Whether this machine supports procedures."""
    return os.uname().machine == "x86_64"


class Procedure:
    """System calls in order; the last one must not return (execve)."""

    def __init__(self) -> None:
        self._words: list[int] = [0]  # before the first call: the address of the failed one
        self._kept: list[object] = []  # the memory that arguments point to
        self._references: list[tuple[int, Result]] = []
        self._places: dict[str, list[int]] = {}
        self._table: ctypes.Array[ctypes.c_uint64] | None = None
        self._first = 0

    def call(
        self,
        number: int,
        *arguments: Argument,
        may_fail: bool = False,
        else_skip: bool = False,
    ) -> Result:
        """Add the system call *number*. bytes are passed by address, with a NUL appended.

        A failure ends the child, unless it *may_fail*, or, with *else_skip*, skips the next
        call.
        """
        assert self._table is None
        assert len(arguments) <= _MOST_ARGUMENTS
        place = len(self._words)
        flags = (_MAY_FAIL if may_fail else 0) | (_ELSE_SKIP if else_skip else 0)
        self._words += [number, *([0] * (_WORDS - 1))]
        for index, argument in enumerate(arguments):
            at = place + 1 + index
            if isinstance(argument, Result):
                assert index < _MOST_REFERENCES
                flags |= 1 << index
                self._references.append((at, argument))
            elif isinstance(argument, Slot):
                self._places.setdefault(argument.name, []).append(at)
            else:
                self._words[at] = self._value(argument)
        self._words[place + _FLAGS] = flags
        return Result(place // _WORDS)

    def _value(self, argument: int | bytes) -> int:
        return argument & _WORD if isinstance(argument, int) else self.keep(argument)

    def keep(self, data: bytes) -> int:
        """Return the address of *data*, with a NUL appended, valid as long as this object."""
        kept = ctypes.create_string_buffer(data, len(data) + 1)
        self._kept.append(kept)
        return ctypes.addressof(kept)

    def finish(self) -> None:
        """Fix the table; no more call()."""
        self._table = (ctypes.c_uint64 * len(self._words))(*self._words)
        base = ctypes.addressof(self._table)
        self._first = base + 8
        for at, result in self._references:
            self._table[at] = base + 8 + result.call * _BYTES + 8 * _RESULT

    @property
    def calls(self) -> int:
        """The number of calls so far."""
        return len(self._words) // _WORDS

    @property
    def slots(self) -> frozenset[str]:
        """The names that fill() must set."""
        return frozenset(self._places)

    def fill(self, name: str, value: int) -> None:
        """Set the slot *name* for the next run."""
        assert self._table is not None
        for at in self._places.get(name, ()):
            self._table[at] = value

    def run(self, flags: int, *, cgroup_fd: int = -1, pid: ctypes.c_int | None = None) -> int:
        """Run it in a child of our own parent, in new namespaces given by *flags*.

        Returns the pid after the child has executed its program or exited; failure() says
        which. *pid*, which may be shared memory, is set as soon as the child exists.

        Raises:
            OSError: no child was made.
        """
        assert self._table is not None
        self._table[0] = 0
        flags |= _VM | _VFORK | _PARENT | _CLEAR_SIGHAND
        place = 0
        if pid is not None:
            pid.value = 0
            flags |= _PARENT_SETTID
            place = ctypes.addressof(pid)
        if cgroup_fd >= 0:
            flags |= _INTO_CGROUP
        arguments = _CLONE_ARGUMENTS.pack(flags, 0, 0, place, *([0] * 6), max(cgroup_fd, 0))
        made: int = _code()(arguments, len(arguments), self._first)
        if made < 0:
            raise OSError(-made, f"clone3: {os.strerror(-made)}")
        return made

    def failure(self) -> Failure | None:
        """Return the failure of the last run; None if its program was executed."""
        assert self._table is not None
        if not self._table[0]:
            return None
        call = (self._table[0] - self._first) // _BYTES
        return Failure(call, -self.result(call))

    def result(self, call: int) -> int:
        """Return the result of *call* in the last run: -errno if it failed."""
        assert self._table is not None
        value = self._table[1 + call * _WORDS + _RESULT]
        return value - (1 << 64) if value >> 63 else value


class Strings:
    """argv or envp: an array of pointers to texts, and a null pointer."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = [ctypes.c_char_p(text) for text in texts]
        self._array = (ctypes.c_char_p * (len(texts) + 1))(*texts, None)

    @property
    def address(self) -> int:
        """The address, valid as long as this object."""
        return ctypes.addressof(self._array)


@functools.cache
def _code() -> Callable[[bytes, int, int], int]:
    if not is_supported():
        raise UnsupportedError(f"no procedures on {os.uname().machine}")
    prototype = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t)
    return prototype(make_executable(_CODE))
