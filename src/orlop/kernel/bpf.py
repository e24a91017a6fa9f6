"""Device programs of cgroup v2: load, attach, detach. bpf(2), <linux/bpf.h>."""

import array
import ctypes
import os
import struct

from orlop.kernel.syscall import bind_number, by_machine

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH = 5, 8, 9
_PROG_GET_FD_BY_ID, _PROG_QUERY = 13, 16
_TYPE_CGROUP_DEVICE = 15  # BPF_PROG_TYPE_CGROUP_DEVICE
_ATTACH_CGROUP_DEVICE = 6  # BPF_CGROUP_DEVICE
_ALLOW_MULTI, _REPLACE = 2, 4
_MOST_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS

_bpf = bind_number("bpf", by_machine(x86_64=321, aarch64=280), ctypes.c_int, ctypes.c_void_p,
                   ctypes.c_uint)  # fmt: skip


def call(command: int, attributes: bytes) -> int:
    """Call bpf(2) with *command*; return its result, for most commands a descriptor."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _bpf(command, ctypes.addressof(buffer), len(attributes))


def load_device_program(instructions: bytes) -> int:
    """Check and load a program; return its descriptor, which the caller closes.

    Raises:
        OSError: EACCES, EINVAL: the verifier refuses the program. EPERM: no CAP_BPF.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        *(_TYPE_CGROUP_DEVICE, len(instructions) // 8),
        *(ctypes.addressof(code), ctypes.addressof(license_)),
        *(0, 0, 0, 0, 0, b"orlop_devices", 0, _ATTACH_CGROUP_DEVICE),
    )
    return call(_PROG_LOAD, attributes)


def attach_device_program(cgroup: int, program: int, *, replace: int | None = None) -> None:
    """Attach *program* to the cgroup v2 folder *cgroup*, replacing *replace* if given.

    Programs of the cgroups above stay in force: all must agree.
    """
    flags = _ALLOW_MULTI | (0 if replace is None else _REPLACE)
    call(
        _PROG_ATTACH,
        struct.pack("=IIIII", cgroup, program, _ATTACH_CGROUP_DEVICE, flags, replace or 0),
    )


def detach_device_program(cgroup: int, program: int) -> None:
    """Detach *program*; FileNotFoundError if it is not attached."""
    call(_PROG_DETACH, struct.pack("=IIII", cgroup, program, _ATTACH_CGROUP_DEVICE, 0))


def device_programs(cgroup: int) -> list[int]:
    """Return descriptors of the programs attached to *cgroup* itself; the caller closes them."""
    ids = array.array("I", bytes(4 * _MOST_PROGRAMS))
    request = struct.pack(
        "=IIIIQI", cgroup, _ATTACH_CGROUP_DEVICE, 0, 0, ids.buffer_info()[0], _MOST_PROGRAMS
    )
    buffer = ctypes.create_string_buffer(request, len(request))
    _bpf(_PROG_QUERY, ctypes.addressof(buffer), len(request))
    count = struct.unpack_from("=I", buffer, 24)[0]
    found: list[int] = []
    try:
        for number in ids[:count]:
            found.append(call(_PROG_GET_FD_BY_ID, struct.pack("=I", number)))
    except OSError:
        for fd in found:
            os.close(fd)
        raise
    return found
