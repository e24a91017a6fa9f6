"""CRIU's messages, from dictionaries to bytes and back.

CRIU speaks Protocol Buffers (images/rpc.proto). Importing a library for them takes longer
than all other imports of a checkpoint, and these few messages use little of it: numbers,
booleans, texts, and nested messages.
"""

from __future__ import annotations

from orlop.errors import CorruptError
from orlop.model.light import Any, Iterator, Mapping, NamedTuple, Sequence

Message = Mapping[str, Any]


class Field(NamedTuple):
    number: int
    kind: type[bool | int | str] | Mapping[str, Field]


Schema = Mapping[str, Field]

_KEY_AND_VALUE: Schema = {"key": Field(1, str), "val": Field(2, str)}
_KEY_AND_FD: Schema = {"key": Field(1, str), "fd": Field(2, int)}
_CGROUP_ROOT: Schema = {"ctrl": Field(1, str), "path": Field(2, str)}
_JOIN_NAMESPACE: Schema = {"ns": Field(1, str), "ns_file": Field(2, str)}
_PAGE_SERVER: Schema = {"address": Field(1, str), "port": Field(2, int)}
_FEATURES: Schema = {"mem_track": Field(1, bool), "lazy_pages": Field(2, bool)}
_NOTIFY: Schema = {"script": Field(1, str), "pid": Field(2, int)}
_RESTORED: Schema = {"pid": Field(1, int)}

_OPTIONS: Schema = {
    "images_dir_fd": Field(1, int),
    "pid": Field(2, int),
    "leave_running": Field(3, bool),
    "ext_unix_sk": Field(4, bool),
    "tcp_established": Field(5, bool),
    "evasive_devices": Field(6, bool),
    "shell_job": Field(7, bool),
    "file_locks": Field(8, bool),
    "log_level": Field(9, int),
    "log_file": Field(10, str),
    "ps": Field(11, _PAGE_SERVER),
    "notify_scripts": Field(12, bool),
    "root": Field(13, str),
    "parent_img": Field(14, str),
    "track_mem": Field(15, bool),
    "auto_dedup": Field(16, bool),
    "work_dir_fd": Field(17, int),
    "link_remap": Field(18, bool),
    "ext_mnt": Field(23, _KEY_AND_VALUE),
    "manage_cgroups": Field(24, bool),
    "cg_root": Field(25, _CGROUP_ROOT),
    "rst_sibling": Field(26, bool),
    "inherit_fd": Field(27, _KEY_AND_FD),
    "manage_cgroups_mode": Field(34, int),
    "external": Field(37, str),
    "empty_ns": Field(38, int),
    "join_ns": Field(39, _JOIN_NAMESPACE),
    "freeze_cgroup": Field(44, str),
    "tcp_skip_in_flight": Field(46, bool),
    "lazy_pages": Field(48, bool),
    "orphan_pts_master": Field(50, bool),
    "config_file": Field(51, str),
    "lsm_profile": Field(53, str),
    "lsm_mount_context": Field(63, str),
    "mntns_compat_mode": Field(65, bool),
    "skip_file_rwx_check": Field(66, bool),
}

REQUEST: Schema = {
    "type": Field(1, int),
    "opts": Field(2, _OPTIONS),
    "notify_success": Field(3, bool),
    "features": Field(5, _FEATURES),
}

RESPONSE: Schema = {
    "type": Field(1, int),
    "success": Field(2, bool),
    "restore": Field(4, _RESTORED),
    "notify": Field(5, _NOTIFY),
    "cr_errno": Field(7, int),
    "features": Field(8, _FEATURES),
    "cr_errmsg": Field(9, str),
}

_NUMBER, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5  # wire types
_MOST_BITS = 64


def encode(schema: Schema, message: Message) -> bytes:
    """Encode *message*; None means that a field is missing, a list that it is repeated."""
    parts: list[bytes] = []
    for name, value in message.items():
        if value is None:
            continue
        many = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        parts.extend(_field(schema[name], one) for one in many)
    return b"".join(parts)


def decode(schema: Schema, data: bytes) -> dict[str, Any]:
    """Return the fields in *data* that *schema* knows; of a repeated field the last one counts.

    Raises:
        CorruptError: *data* is not such a message.
    """
    names = {field.number: (name, field.kind) for name, field in schema.items()}
    message: dict[str, Any] = {}
    for number, value in _fields(data):
        name, kind = names.get(number, ("", int))
        if not name:
            continue
        if isinstance(value, bytes) == (kind in (int, bool)):
            raise CorruptError(f"criu's answer has a {name} of another kind")
        message[name] = _value(kind, value)
    return message


def _field(field: Field, value: Any) -> bytes:
    if field.kind in (int, bool):
        return _varint(field.number << 3 | _NUMBER) + _varint(int(value))
    data = value.encode() if isinstance(value, str) else encode(_nested(field), value)
    return _varint(field.number << 3 | _BYTES) + _varint(len(data)) + data


def _nested(field: Field) -> Schema:
    assert not isinstance(field.kind, type)
    return field.kind


def _value(kind: type | Schema, value: int | bytes) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace") if isinstance(kind, type) else decode(kind, value)
    if kind is bool:
        return bool(value)
    return value - (1 << 64) if value >> 63 else value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as 64 bits' complement."""
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _NUMBER:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _read_varint(data, at)
        elif wire in (_FIXED_32, _FIXED_64):
            size = 4 if wire == _FIXED_32 else 8
        else:
            raise CorruptError(f"criu's answer has a field of unknown wire type {wire}")
        if at + size > len(data):
            raise CorruptError("criu's answer is cut short")
        if wire == _BYTES:
            yield number, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift >= _MOST_BITS:
            raise CorruptError("criu's answer is cut short")
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value & (1 << 64) - 1, at
