"""Seccomp policy of config.json -> filter program, compiled once and cached.

    filter = compile(config["linux"]["seccomp"])       # the parent
    kernel.seccomp.load(filter.program, filter.flags)  # the child, last of all

config-linux.md, "Seccomp". libseccomp is loaded only when no cache knows the
policy; the cache on disk outlives the process that filled it.
"""

import contextlib
import json
import os
import stat
from typing import NamedTuple

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.kernel.seccomp import FilterFlag
from orlop.model.oci import Seccomp

_FORMAT = 1  # in the cached files' names; raise it when the same policy compiles differently
_MOST_BYTES = 4096 * 8  # BPF_MAXINSNS


class Filter(NamedTuple):
    """*program* is classic BPF, *flags* are kernel.seccomp.FilterFlag."""

    program: bytes
    flags: int


_compiled: dict[str, Filter] = {}


def compile(policy: Seccomp, *, cache: str | None = None) -> Filter:  # noqa: A001 - seccomp.compile
    """Return the filter of *policy*, from memory, from the folder *cache*, or by libseccomp.

    *cache* defaults to "seccomp" in the run directory; a folder or a file there
    that somebody else could have written is not used.

    Raises:
        InvalidArgumentError: an action, an operator, an architecture or a flag is unknown.
        UnsupportedError: SCMP_ACT_NOTIFY, or there is no libseccomp.
    """
    text = json.dumps(policy, sort_keys=True, separators=(",", ":"))
    if (known := _compiled.get(text)) is not None:
        return known
    flags = _flags(policy)
    path = _cached_name(text, cache or default_cache())
    program = _read(path)
    if program is None:
        from orlop.runtime import seccomp_compiler

        program = seccomp_compiler.compile(policy)
        with contextlib.suppress(OSError):  # without a cache it is only slower
            _write(path, program)
    _compiled[text] = Filter(program, flags)
    return _compiled[text]


def default_cache() -> str:
    """Return the folder of compiled filters in the run directory."""
    return os.environ.get("ORLOP_RUN", "/run/orlop") + "/seccomp"


def _flags(policy: Seccomp) -> int:
    """TSYNC is for threads, and we have none; without a list, SPEC_ALLOW as runc does."""
    if "SCMP_ACT_NOTIFY" in _actions(policy):
        raise UnsupportedError(
            "seccomp action SCMP_ACT_NOTIFY is not supported", hint="use SCMP_ACT_ERRNO"
        )
    flags = 0
    for name in policy.get("flags", ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]):
        try:
            flags |= FilterFlag[name.removeprefix("SECCOMP_FILTER_FLAG_")]
        except KeyError:
            raise InvalidArgumentError(f"unknown seccomp flag {name!r}") from None
    return flags & ~FilterFlag.TSYNC & ~FilterFlag.WAIT_KILLABLE_RECV


def _actions(policy: Seccomp) -> set[str]:
    rules = {rule.get("action", "") for rule in policy.get("syscalls", [])}
    return rules | {policy.get("defaultAction", "")}


def _cached_name(text: str, folder: str) -> str:
    import hashlib  # maps OpenSSL: only when the memory does not know

    digest = hashlib.sha256(f"{_FORMAT} {os.uname().machine} {text}".encode()).hexdigest()
    return f"{folder}/{digest}.bpf"


def _read(path: str) -> bytes | None:
    """Return the cached program, or None if there is none that can be trusted."""
    try:
        if not _ours(os.lstat(os.path.dirname(path)), stat.S_ISDIR):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        whole = 0 < status.st_size <= _MOST_BYTES and status.st_size % 8 == 0
        if not whole or not _ours(status, stat.S_ISREG):
            return None
        program = os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)
    return program if len(program) == status.st_size else None


def _ours(status: os.stat_result, kind: object) -> bool:
    """Whether it is of the right *kind* and only we or root can have written it."""
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return (
        callable(kind)
        and bool(kind(status.st_mode))
        and not writable
        and status.st_uid in (0, os.geteuid())
    )


def _write(path: str, program: bytes) -> None:
    folder = os.path.dirname(path)
    for place in (os.path.dirname(folder), folder):  # makedirs() would leave the upper one open
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
    beside = f"{path}.{os.getpid()}"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, program)
    finally:
        os.close(fd)
    os.rename(beside, path)
