"""Compile a device policy to eBPF for a v2 cgroup. <linux/bpf.h>, struct bpf_cgroup_dev_ctx.

The kernel runs the program at each open and mknod. Its context has the requested access
and the node's type in one word, and its numbers in two more; 1 allows.
"""

import os
import struct

from orlop.errors import PermissionDeniedError
from orlop.kernel import bpf
from orlop.model.light import Iterable
from orlop.model.oci import DeviceRule
from orlop.runtime.cgroups.devices import ANY, Device, Policy, policy

_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*

# Registers: the answer, the context, and the values that the prologue reads from it.
_ANSWER, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR = range(6)

_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE, _MOVE_IMMEDIATE = 0xBF, 0xB7  # BPF_ALU64 | BPF_MOV | BPF_X, BPF_K
_AND, _SHIFT_RIGHT = 0x57, 0x77  # BPF_ALU64 | BPF_AND, BPF_RSH | BPF_K
_IF_NOT_EQUAL, _IF_EQUAL = 0x55, 0x15  # BPF_JMP | BPF_JNE, BPF_JEQ | BPF_K
_EXIT = 0x95


def _instruction(
    code: int, target: int = 0, source: int = 0, *, jump: int = 0, value: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, jump, value)


def program(rules: Policy) -> bytes:
    """Return the instructions for *rules*."""
    parts = [
        _instruction(_LOAD_WORD, _TYPE, _CONTEXT),
        _instruction(_MOVE, _WANTED, _TYPE),
        _instruction(_SHIFT_RIGHT, _WANTED, value=16),
        _instruction(_AND, _TYPE, value=0xFFFF),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, jump=4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, jump=8),
    ]
    parts += [
        _exception(device, access, allow=not rules.allow)
        for device, access in rules.exceptions.items()
    ]
    parts += [_instruction(_MOVE_IMMEDIATE, _ANSWER, value=int(rules.allow)), _instruction(_EXIT)]
    return b"".join(parts)


def _exception(device: Device, access: str, *, allow: bool) -> bytes:
    """Answer for *device*, else fall through. Allow if all requested access is in *access*.

    Deny if any of it is.
    """
    mask = sum(_ACCESS[letter] for letter in access)
    tests = [(_TYPE, _TYPES[device.type])]
    if device.major != ANY:
        tests.append((_MAJOR, device.major))
    if device.minor != ANY:
        tests.append((_MINOR, device.minor))
    # Register 1 is free here: the prologue has read the context.
    access_test = [
        _instruction(_MOVE, _CONTEXT, _WANTED),
        _instruction(_AND, _CONTEXT, value=~mask if allow else mask),
        _instruction(_IF_NOT_EQUAL if allow else _IF_EQUAL, _CONTEXT, jump=2),
    ]
    answer = [_instruction(_MOVE_IMMEDIATE, _ANSWER, value=int(allow)), _instruction(_EXIT)]
    length = len(tests) + len(access_test) + len(answer)
    checks = [
        _instruction(_IF_NOT_EQUAL, register, jump=length - place - 1, value=value)
        for place, (register, value) in enumerate(tests)
    ]
    return b"".join([*checks, *access_test, *answer])


def put(directory: str, rules: Iterable[DeviceRule]) -> None:
    """Set *rules* as the device policy of the v2 cgroup at *directory*, replacing the last.

    Raises:
        PermissionDeniedError: without CAP_BPF or CAP_SYS_ADMIN here.
    """
    instructions = program(policy(rules))
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened = [cgroup]
    try:
        new = bpf.load_device_program(instructions)
        opened.append(new)
        old = bpf.device_programs(cgroup)
        opened += old
        bpf.attach_device_program(cgroup, new, replace=old[0] if old else None)
        for extra in old[1:]:
            bpf.detach_device_program(cgroup, extra)
    except PermissionError as error:
        raise PermissionDeniedError(
            f"no permission to limit devices in {directory}", hint="it takes CAP_BPF"
        ) from error
    finally:
        for fd in opened:
            os.close(fd)
