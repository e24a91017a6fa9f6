"""The mounts of config.json: the kernel's file systems, the engine's files, the user's mounts."""

import os
import posixpath
from collections.abc import Iterable

from orlop.engine.spec.given import Given
from orlop.engine.spec.process import INIT_TARGET
from orlop.engine.spec.security import Security
from orlop.engine.volume_sources import mount_words
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import MountPoint
from orlop.model.oci import OCIMount

_SEALED = ("nosuid", "noexec", "nodev")
_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_TMPFS_WORDS = frozenset(
    [
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "strictatime",
        "tmpcopyup",
    ]
)
_TMPFS_KEYS = frozenset(["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"])


def mounts(given: Given, security: Security) -> list[OCIMount]:
    """Return the mounts in order; the user's come last and replace ours at the same target.

    Raises:
        InvalidArgumentError: a target or an option is invalid.
    """
    ours = [*_kernel(given, security), *_files(given)]
    theirs = sorted((_user(mount) for mount in given.mounts), key=_depth)
    targets = [mount["destination"] for mount in theirs]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidArgumentError(f"duplicate mount point {target}")
    return [*(mount for mount in ours if mount["destination"] not in targets), *theirs]


def propagation(points: Iterable[MountPoint]) -> str:
    """Return the propagation of the root that the mounts' own propagation needs."""
    wanted = {point.propagation.removeprefix("r") for point in points}
    if "shared" in wanted:
        return "rshared"
    return "rslave" if "slave" in wanted else "rprivate"


def _depth(mount: OCIMount) -> int:
    return mount["destination"].count("/")


def _kernel(given: Given, security: Security) -> list[OCIMount]:
    access = "rw" if security.writable_system else "ro"
    cgroups = "rw" if security.writable_cgroups else "ro"
    shm = f"size={given.options.shm_size_bytes}"
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    result = [
        _mount("/proc", "proc", *_SEALED),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", *pts),
        _mount("/sys", "sysfs", *_SEALED, access),
        _mount("/sys/fs/cgroup", "cgroup", *_SEALED, cgroups),
        _mount("/dev/mqueue", "mqueue", *_SEALED),
        _mount("/dev/shm", "tmpfs", *_SEALED, "mode=1777", shm),
    ]
    if given.options.ipc == "host":
        shared = ("/dev/mqueue", "/dev/shm")  # a host may lack either one
        result[-2:] = [_bind(target) for target in shared if os.path.isdir(target)]
    elif "ipc" in given.joined:
        result[-1] = _of_neighbour("/dev/shm", given)
    elif given.options.ipc == "none":
        result.pop()
    return result


def _mount(target: str, kind: str, *options: str) -> OCIMount:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


def _bind(target: str) -> OCIMount:
    """Bind-mount the host's *target* at the same path."""
    options = ["rbind", "rprivate", *_SEALED]
    return {"destination": target, "type": "bind", "source": target, "options": options}


def _of_neighbour(target: str, given: Given) -> OCIMount:
    """Bind-mount *target* of the container whose IPC namespace is joined."""
    if given.uid_mappings:
        raise UnsupportedError("joining an IPC namespace from a user namespace is not supported")
    root = given.joined["ipc"].removesuffix("ns/ipc") + "root"
    return {**_bind(target), "source": root + target}


def _files(given: Given) -> list[OCIMount]:
    """Return the engine's own files, and the init program."""
    files: list[OCIMount] = [
        {
            "destination": target,
            "type": "bind",
            "source": source,
            "options": ["rbind", "rprivate", *(["ro"] if _has_fixed_files(given) else [])],
        }
        for target, source in given.files.items()
    ]
    if given.options.init:
        if not given.init:
            raise UnsupportedError("this host has no init program for --init", hint="install tini")
        options = ["bind", "ro"]
        files.append(
            {"destination": INIT_TARGET, "type": "bind", "source": given.init, "options": options}
        )
    return files


def _has_fixed_files(given: Given) -> bool:
    """Whether the engine's files are read-only, because they do not count for its disk."""
    return given.options.read_only or bool(given.options.disk_bytes)


def _user(point: MountPoint) -> OCIMount:
    target = _target(point.target)
    if point.type == "tmpfs":
        options = _tmpfs_options(point)
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
    if point.driver_options:
        kind, source, words = mount_words(point)
        words += ["ro"] if point.read_only else []
        return {"destination": target, "type": kind, "source": source, "options": words}
    if not posixpath.isabs(point.source):
        raise InvalidArgumentError(f"source {point.source!r} of the mount on {target} is relative")
    how = point.propagation or "rprivate"
    if how not in _PROPAGATIONS:
        raise InvalidArgumentError(f"invalid propagation {how!r} of the mount on {target}")
    words = ["bind" if point.non_recursive else "rbind", how]
    if point.read_only:  # recursive, otherwise a mount below the source would stay writable
        words.append("ro" if point.non_recursive or point.read_only_top else "rro")
    return {"destination": target, "type": "bind", "source": point.source, "options": words}


def _target(path: str) -> str:
    if not posixpath.isabs(path) or "\0" in path:
        raise InvalidArgumentError(f"mount target {path!r} must be an absolute path")
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        raise InvalidArgumentError("a mount's target cannot be /")
    return clean


def _tmpfs_options(point: MountPoint) -> list[str]:
    """Docker's defaults first, so that the user's options override them."""
    words = [*_SEALED]
    for word in filter(None, point.tmpfs_options.split(",")):
        key, equals, _ = word.partition("=")
        if key not in (_TMPFS_KEYS if equals else _TMPFS_WORDS):
            raise InvalidArgumentError(f"invalid tmpfs option {word!r} for {point.target}")
        words.append(word)
    if point.tmpfs_size_bytes:
        words.append(f"size={point.tmpfs_size_bytes}")
    if point.tmpfs_mode is not None:
        words.append(f"mode={point.tmpfs_mode:o}")
    if point.read_only:
        words.append("ro")
    return words
