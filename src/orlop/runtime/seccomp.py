"""Compile the seccomp policy of config.json to a filter program, once, and cache it.

    filter = compile(config["linux"]["seccomp"])       # the parent
    kernel.seccomp.load(filter.program, filter.flags)  # the child, at the end

config-linux.md, "Seccomp". libseccomp is loaded only if the policy is in no cache;
the cache on disk outlives the process that filled it.
"""

import marshal
import os
import stat

from orlop.errors import InvalidArgumentError
from orlop.kernel.seccomp import FilterFlag
from orlop.model.light import NamedTuple
from orlop.model.light_context import suppress
from orlop.model.oci import Seccomp

_FORMAT = 3  # part of the cached files' names; raise it when the compiled program changes
_MOST_BYTES = 4096 * 8  # BPF_MAXINSNS
_MOST_KNOWN = 64
_NOTIFY = "SCMP_ACT_NOTIFY"

#: The flags of a policy. TSYNC is for threads, and a process that loads a filter has only
#: one.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": FilterFlag(0),
    "SECCOMP_FILTER_FLAG_LOG": FilterFlag.LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FilterFlag.SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FilterFlag.WAIT_KILLABLE_RECV,
}


class Filter(NamedTuple):
    """*program* is classic BPF, *flags* are kernel.seccomp.FilterFlag.

    If the policy notifies, *listener* is the agent's socket, and *metadata* is sent to
    the agent with the container's state.
    """

    program: bytes
    flags: int
    listener: str = ""
    metadata: str = ""


_compiled: dict[bytes, Filter] = {}


def compile(policy: Seccomp, *, cache: str | None = None) -> Filter:  # noqa: A001 - seccomp.compile
    """Return the filter of *policy*, from memory, from the folder *cache*, or by libseccomp.

    *cache* defaults to "seccomp" in the run directory; a folder or a file in it
    that other users could have written is not used.

    Raises:
        InvalidArgumentError: an action, an operator, an architecture or a flag is unknown,
            or an action notifies without a listenerPath.
        UnsupportedError: libseccomp is not installed.
    """
    text = _text(policy)
    if (known := _compiled.get(text)) is not None:
        return known
    notifies = _NOTIFY in _actions(policy)
    flags = _flags(policy, notifies=notifies)
    listener, metadata = _listener(policy, notifies=notifies)
    path = _cached_name(_program_text(policy, text), cache or default_cache())
    program = _read(path)
    if program is None:
        from orlop.runtime import seccomp_compiler

        program = seccomp_compiler.compile(policy)
        with suppress(OSError):  # without a cache it is only slower
            _write(path, program)
    if len(_compiled) >= _MOST_KNOWN:
        _compiled.clear()
    _compiled[text] = Filter(program, flags, listener, metadata)
    return _compiled[text]


def remember(policy: Seccomp, program: bytes) -> None:
    """Have compile() return *program* for *policy*: another machine has compiled it."""
    notifies = _NOTIFY in _actions(policy)
    listener, metadata = _listener(policy, notifies=notifies)
    flags = _flags(policy, notifies=notifies)
    _compiled[_text(policy)] = Filter(program, flags, listener, metadata)


def default_cache() -> str:
    """Return the folder of compiled filters in the run directory."""
    return os.environ.get("ORLOP_RUN", "/run/orlop") + "/seccomp"


def _text(policy: Seccomp) -> bytes:
    """Return bytes that are equal for equal policies; faster than JSON, and without an import.

    Version 2 of the format, because later ones depend on the number of references.
    """
    try:
        return marshal.dumps(dict(policy), 2)
    except ValueError as error:
        raise InvalidArgumentError(f"the seccomp policy is no JSON: {error}") from None


def _program_text(policy: Seccomp, text: bytes) -> bytes:
    """Leave out the parts that do not affect the program and may differ between containers."""
    if "listenerPath" not in policy and "listenerMetadata" not in policy:
        return text
    bare = policy.copy()
    bare.pop("listenerPath", None)
    bare.pop("listenerMetadata", None)
    return _text(bare)


def _flags(policy: Seccomp, *, notifies: bool) -> int:
    """Return the policy's flags; without a list, SPEC_ALLOW as runc does."""
    flags = FilterFlag(0)
    for name in policy.get("flags", ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]):
        try:
            flags |= FLAGS[name]
        except KeyError:
            raise InvalidArgumentError(f"unknown seccomp flag {name!r}") from None
    if notifies:
        return flags | FilterFlag.NEW_LISTENER
    return flags & ~FilterFlag.WAIT_KILLABLE_RECV  # the kernel allows it only with a listener


def _listener(policy: Seccomp, *, notifies: bool) -> tuple[str, str]:
    path, metadata = policy.get("listenerPath", ""), policy.get("listenerMetadata", "")
    if metadata and not path:
        raise InvalidArgumentError("seccomp.listenerMetadata needs a seccomp.listenerPath")
    if not notifies:
        return "", ""
    if not path:
        raise InvalidArgumentError(f"seccomp action {_NOTIFY} needs a seccomp.listenerPath")
    return path, metadata


def _actions(policy: Seccomp) -> set[str]:
    rules = {rule.get("action", "") for rule in policy.get("syscalls", [])}
    return rules | {policy.get("defaultAction", "")}


def _cached_name(text: bytes, folder: str) -> str:
    try:
        from _blake2 import blake2b  # hashlib's, without hashlib, which maps OpenSSL
    except ImportError:
        from hashlib import blake2b

    digest = blake2b(f"{_FORMAT} {os.uname().machine} ".encode() + text, digest_size=32)
    return f"{folder}/{digest.hexdigest()}.bpf"


def _read(path: str) -> bytes | None:
    """Return the cached program, or None if there is none that is safe to use."""
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
    """Whether it has the right *kind* and only we or root can have written it."""
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return (
        callable(kind)
        and bool(kind(status.st_mode))
        and not writable
        and status.st_uid in (0, os.geteuid())
    )


def _write(path: str, program: bytes) -> None:
    folder = os.path.dirname(path)
    for place in (os.path.dirname(folder), folder):  # makedirs() would not protect the upper one
        with suppress(FileExistsError):
            os.mkdir(place, 0o700)
    beside = f"{path}.{os.getpid()}"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, program)
    finally:
        os.close(fd)
    os.rename(beside, path)
