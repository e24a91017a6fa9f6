"""The mounts of a RUN. Dockerfile reference, "RUN --mount"."""

import posixpath
from typing import NamedTuple

from orlop.build.config import joined
from orlop.build.parse import Instruction
from orlop.model.sizes import parse_size

_BOTH = frozenset({"type", "target", "dst", "destination", "readonly", "ro", "rw", "readwrite"})
_KNOWN = {
    "bind": _BOTH | {"source", "src", "from"},
    "cache": _BOTH | {"id", "sharing", "mode", "uid", "gid"},
    "tmpfs": frozenset({"type", "target", "dst", "destination", "size"}),
    "secret": frozenset(
        {"type", "id", "target", "dst", "destination", "required", "mode", "uid", "gid", "env"}
    ),
}
_SHARING = ("shared", "private", "locked")
_TRUE = ("", "true", "1")
_FALSE = ("false", "0")


class RunMount(NamedTuple):
    """One mount, its defaults filled in."""

    kind: str  # bind, cache, tmpfs or secret
    target: str  # absolute
    source: str = ""  # bind: a path in what it is *from*
    origin: str = ""  # bind: a stage or an image; "" for the context
    id: str = ""  # cache, secret
    sharing: str = "shared"
    mode: int = 0
    uid: int = 0
    gid: int = 0
    read_only: bool = False
    required: bool = False
    size_bytes: int | None = None


def parse_mount(one: Instruction, text: str, working_dir: str) -> RunMount:
    """Return the mount in *text*, KEY=VALUE with commas. InvalidArgumentError with the place."""
    try:
        return _parsed(text, working_dir)
    except ValueError as error:
        raise one.wrong(f"--mount={text[:200]}: {error}") from None


def _parsed(text: str, working_dir: str) -> RunMount:
    pairs = [part.partition("=") for part in text.split(",")]
    given = {name.strip().lower(): value for name, _, value in pairs}
    kind = given.get("type", "bind")
    if kind not in _KNOWN:
        raise ValueError(f"mounts of type {kind[:50]!r} are not supported")
    if unknown := given.keys() - _KNOWN[kind]:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))[:200]}")
    target = next((given[n] for n in ("target", "dst", "destination") if given.get(n)), "")
    if kind == "secret":
        return _secret(given, target, working_dir)
    if not target:
        raise ValueError("a target is missing")
    target = joined(working_dir, target)
    if target == "/":
        raise ValueError("the target cannot be /")
    sharing = given.get("sharing", "shared")
    if sharing not in _SHARING:
        raise ValueError(f"sharing is one of {', '.join(_SHARING)}")
    is_writable = _flag(given, "rw", "readwrite", default=kind != "bind")
    return RunMount(
        kind=kind,
        target=target,
        source=given.get("source", given.get("src", "")),
        origin=given.get("from", ""),
        id=given.get("id", "") or target,
        sharing=sharing,
        mode=_mode(given, 0o755),
        uid=_number(given, "uid"),
        gid=_number(given, "gid"),
        read_only=_flag(given, "readonly", "ro", default=not is_writable),
        size_bytes=parse_size(given["size"]) if given.get("size") else None,
    )


def _secret(given: dict[str, str], target: str, working_dir: str) -> RunMount:
    name = given.get("id", "") or posixpath.basename(target)
    if not name:
        raise ValueError("an id is missing")
    if given.get("env"):  # it would be in the container's record, and so on disk
        raise ValueError("a secret is a file, and no variable: read it from its target")
    target = joined(working_dir, target or f"/run/secrets/{name}")
    return RunMount(
        kind="secret",
        target=target,
        id=name,
        mode=_mode(given, 0o400),
        uid=_number(given, "uid"),
        gid=_number(given, "gid"),
        read_only=True,
        required=_flag(given, "required", default=False),
    )


def _flag(given: dict[str, str], *names: str, default: bool) -> bool:
    for name in names:
        if name in given:
            value = given[name].lower()
            if value not in (*_TRUE, *_FALSE):
                raise ValueError(f"{name} is true or false")
            return value in _TRUE
    return default


def _number(given: dict[str, str], name: str) -> int:
    text = given.get(name, "0")
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise ValueError(f"{name} is a number")
    return int(text)


def _mode(given: dict[str, str], default: int) -> int:
    text = given.get("mode", "")
    if not text:
        return default
    if set(text) - set("01234567") or len(text) > 5:
        raise ValueError("mode is an octal number")
    return int(text, 8)
