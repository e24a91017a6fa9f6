"""Direct packets for another address to our sockets. bpf(2), BPF_SK_LOOKUP.

Linux 5.9; Documentation/bpf/prog_sk_lookup.rst, <linux/bpf.h> struct bpf_sk_lookup.
"""

import ctypes
import os
import socket
import struct
import sys

from orlop.kernel.bpf import call

_MAP_CREATE, _MAP_UPDATE_ELEM, _PROG_LOAD, _LINK_CREATE = 0, 2, 5, 28
_MAP_TYPE_SOCKMAP = 15
_TYPE_SK_LOOKUP = 30  # BPF_PROG_TYPE_SK_LOOKUP
_ATTACH_SK_LOOKUP = 36  # BPF_SK_LOOKUP
_FAMILY, _PROTOCOL, _LOCAL_IP4, _LOCAL_PORT = 8, 12, 40, 60  # offsets in the context
_LOOKUP_ELEM, _SK_RELEASE, _SK_ASSIGN = 1, 86, 124  # helpers
_PASS = 1
_MOST_PROTOCOLS = 18  # the map's keys: 6 and 17

# BPF opcodes; Documentation/bpf/standardization/instruction-set.rst
_MOVE, _MOVE_NUMBER, _ADD_NUMBER = 0xBF, 0xB7, 0x07
_LOAD, _STORE, _LOAD_MAP = 0x61, 0x63, 0x18
_CALL, _EXIT, _IF_EQUAL, _IF_UNEQUAL = 0x85, 0x95, 0x15, 0x55


def redirect(address: str, port: int, *, udp: int, tcp: int) -> int:
    """Direct packets for *address* (IPv4) and *port* to two sockets, in this network namespace.

    Returns a descriptor; closing it ends the redirection. The TCP socket must listen already.

    Raises:
        OSError: EPERM: no CAP_BPF or CAP_NET_ADMIN. EINVAL: the kernel does not support it.
    """
    sockets = call(_MAP_CREATE, struct.pack("=5I", _MAP_TYPE_SOCKMAP, 4, 8, _MOST_PROTOCOLS, 0))
    try:
        _put(sockets, socket.IPPROTO_UDP, udp)
        _put(sockets, socket.IPPROTO_TCP, tcp)
        program = _load(_program(address, port, sockets))
    finally:
        os.close(sockets)
    try:
        return _link(program)
    finally:
        os.close(program)


def _put(sockets: int, protocol: int, fd: int) -> None:
    key, value = _buffer(struct.pack("=I", protocol)), _buffer(struct.pack("=Q", fd))
    where = (ctypes.addressof(key), ctypes.addressof(value))
    call(_MAP_UPDATE_ELEM, struct.pack("=IIQQQ", sockets, 0, *where, 0))


def _load(instructions: bytes) -> int:
    code, license_ = _buffer(instructions), _buffer(b"Apache-2.0\0")
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        *(_TYPE_SK_LOOKUP, len(instructions) // 8),
        *(ctypes.addressof(code), ctypes.addressof(license_)),
        *(0, 0, 0, 0, 0, b"orlop_names", 0, _ATTACH_SK_LOOKUP),
    )
    return call(_PROG_LOAD, attributes)


def _link(program: int) -> int:
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return call(_LINK_CREATE, struct.pack("=4I", program, namespace, _ATTACH_SK_LOOKUP, 0))
    finally:
        os.close(namespace)


def _program(address: str, port: int, sockets: int) -> bytes:
    """Return the program: if it is IPv4, this port and address, take the protocol's socket."""
    packed = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    body = [
        _step(_MOVE, 6, 1),
        *_unless_equal(_FAMILY, int(socket.AF_INET)),
        *_unless_equal(_LOCAL_PORT, port),
        *_unless_equal(_LOCAL_IP4, _signed(packed)),
        _step(_LOAD, 2, 6, offset=_PROTOCOL),
        _step(_STORE, 10, 2, offset=-4),
        *(_step(_LOAD_MAP, 1, 1, number=sockets), _step(0)),
        *(_step(_MOVE, 2, 10), _step(_ADD_NUMBER, 2, number=-4)),
        _step(_CALL, number=_LOOKUP_ELEM),
        (_IF_EQUAL, 0, 0),
        *(_step(_MOVE, 7, 0), _step(_MOVE, 1, 6), _step(_MOVE, 2, 0), _step(_MOVE_NUMBER, 3)),
        _step(_CALL, number=_SK_ASSIGN),
        *(_step(_MOVE, 1, 7), _step(_CALL, number=_SK_RELEASE)),
    ]
    end = [_step(_MOVE_NUMBER, 0, number=_PASS), _step(_EXIT)]
    steps = [
        one if isinstance(one, bytes) else _jump(one, len(body) - at - 1)
        for at, one in enumerate(body)
    ]
    return b"".join([*steps, *end])


def _unless_equal(field: int, number: int) -> list[bytes | tuple[int, int, int]]:
    """Go on only if the context's *field* is *number*."""
    return [_step(_LOAD, 2, 6, offset=field), (_IF_UNEQUAL, 2, number)]


def _jump(jump: tuple[int, int, int], distance: int) -> bytes:
    opcode, register, number = jump
    return _step(opcode, register, offset=distance, number=number)


def _step(
    opcode: int, target: int = 0, source: int = 0, *, offset: int = 0, number: int = 0
) -> bytes:
    registers = source << 4 | target if sys.byteorder == "little" else target << 4 | source
    return struct.pack("=BBhi", opcode, registers, offset, number)


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number


def _buffer(data: bytes) -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(data, len(data))
