"""The root file system: from a list of mounts to one detached mount.

Overlay's layers are given one by one: by path, or (`mount:N`) by the descriptor
of a mount earlier in the list that is in no namespace at all.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from orlop.kernel.idmap import acting_as
from orlop.kernel.mount import (
    MountAttr,
    OpenTree,
    fs_messages,
    fsconfig_create,
    fsconfig_fd,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    mount_setattr,
    open_tree,
)
from orlop.model.mount import Mount
from orlop.runtime.options import Options, Special, parse

_LONGEST_STRING = 255  # fsconfig(2)
_CLONE = OpenTree.CLONE
_CLONE_TREE = OpenTree.CLONE | OpenTree.RECURSIVE
_IDMAP = int(MountAttr.IDMAP)
_LAYER_KEYS = frozenset(("lowerdir+", "datadir+"))


class Owner(NamedTuple):
    """Whose the root is to be: a user namespace, and its user 0 as the host sees it."""

    userns_fd: int
    uid: int
    gid: int


def assemble(mounts: Sequence[Mount], *, owner: Owner | None = None) -> int:
    """Make *mounts* and return the root, the one whose target is "/", detached.

    With *owner* every layer is id-mapped by its user namespace, so that
    nothing on disk changes owner; only a caller that is root where the file
    systems were mounted may do that. What was made for the root lives as long
    as the root does.
    """
    made: list[int] = []
    with ExitStack() as undo:
        for mount in mounts:
            fd = _make(mount, made, owner)
            undo.callback(os.close, fd)
            made.append(fd)
            if mount.target == "/":
                return os.dup(fd)
    raise OSError(22, "no mount in the list is the root")


def filesystem(fstype: str, source: str, options: Options) -> int:
    """Return a detached mount of a new file system; OSError carries the kernel's own words."""
    config = fsopen(fstype)
    try:
        if source:
            fsconfig_string(config, "source", source)
        for key, value in options.filesystem:
            if value is None:
                fsconfig_flag(config, key)
            else:
                fsconfig_string(config, key, value)
        fsconfig_create(config)
        return fsmount(config, options.set_)
    except OSError as error:
        raise _explained(error, config, fstype) from None
    finally:
        os.close(config)


def bind(source: str, *, recursive: bool) -> int:
    """Return a detached copy of the mount at *source*, a folder or a file."""
    return open_tree(source, _CLONE_TREE if recursive else _CLONE)


def set_attributes(fd: int, options: Options) -> None:
    """Give a bind mount its attributes and propagation."""
    if options.tree_set or options.tree_clear:
        mount_setattr(fd, set_=options.tree_set, clear=options.tree_clear, recursive=True)
    if options.set_ or options.clear:
        mount_setattr(fd, set_=options.set_, clear=options.clear)
    for propagation, recursive in options.propagation:
        mount_setattr(fd, propagation=propagation, recursive=recursive)


def _make(mount: Mount, made: Sequence[int], owner: Owner | None) -> int:
    options = parse(mount.options)
    if mount.type == "overlay":
        if owner is None:
            return _overlay(mount, options, made, None)
        # Overlay works in its upper layer as who mounts it, so that must be somebody there.
        with acting_as(owner.uid, owner.gid):
            return _overlay(mount, options, made, owner.userns_fd)
    if mount.type == "bind":
        fd = bind(mount.source, recursive=Special.RBIND in options.special)
        set_attributes(fd, options)
    else:
        fd = filesystem(mount.type, mount.source, options)
    if owner is not None:
        mount_setattr(fd, set_=_IDMAP, userns_fd=owner.userns_fd)
    return fd


def _overlay(mount: Mount, options: Options, made: Sequence[int], userns_fd: int | None) -> int:
    config = fsopen("overlay")
    try:
        fsconfig_string(config, "source", mount.source or "overlay")
        with ExitStack() as layers:
            writable = _writable_layer(options, layers, userns_fd)
            for key, value in options.filesystem:
                if value is None:
                    fsconfig_flag(config, key)
                elif key in _LAYER_KEYS:
                    _set_lower(config, key, value, _lower(value, made, layers, userns_fd))
                elif key in writable:
                    _set_layer(config, key, writable[key])
                else:
                    fsconfig_string(config, key, value)
            fsconfig_create(config)
        return fsmount(config, options.set_)
    except OSError as error:
        raise _explained(error, config, "overlay") from None
    finally:
        os.close(config)


def _writable_layer(options: Options, layers: ExitStack, userns_fd: int | None) -> dict[str, int]:
    """Open upperdir and workdir, where a string will not do: too long, or to be id-mapped.

    Overlay wants both on one mount, so their common folder is what is mapped.
    """
    paths = {k: v for k, v in options.filesystem if v and k in ("upperdir", "workdir")}
    if userns_fd is None:
        long = max(map(len, map(os.fsencode, paths.values())), default=0) > _LONGEST_STRING
        return {k: _opened(v, layers) for k, v in paths.items()} if long else {}
    if not paths:
        return {}
    folder = os.path.commonpath(list(paths.values()))
    tree = open_tree(folder, _CLONE)
    layers.callback(os.close, tree)
    mount_setattr(tree, set_=_IDMAP, userns_fd=userns_fd)
    opened = {}
    for key, path in paths.items():
        opened[key] = os.open(os.path.relpath(path, folder), _PATH, dir_fd=tree)
        layers.callback(os.close, opened[key])
    return opened


_PATH = os.O_PATH | os.O_CLOEXEC


def _opened(path: str, layers: ExitStack) -> int:
    fd = os.open(path, _PATH)
    layers.callback(os.close, fd)
    return fd


def _lower(value: str, made: Sequence[int], layers: ExitStack, userns_fd: int | None) -> int | None:
    """Return the descriptor of a lower layer, or None where its path will do."""
    if value.startswith("mount:"):
        return made[int(value[len("mount:") :])]
    if userns_fd is not None:
        tree = open_tree(value, _CLONE)
        layers.callback(os.close, tree)
        mount_setattr(tree, set_=_IDMAP, userns_fd=userns_fd)
        return tree
    return _opened(value, layers) if len(os.fsencode(value)) > _LONGEST_STRING else None


def _set_lower(config: int, key: str, value: str, fd: int | None) -> None:
    if fd is None:
        fsconfig_string(config, key, value)
    else:
        _set_layer(config, key, fd)


def _set_layer(config: int, key: str, fd: int) -> None:
    try:
        fsconfig_fd(config, key, fd)
    except OSError:  # before Linux 6.13 a layer is a path
        fsconfig_string(config, key, f"/proc/self/fd/{fd}")


def _explained(error: OSError, config: int, fstype: str) -> OSError:
    said = fs_messages(config)
    text = error.strerror or os.strerror(error.errno or 0)
    return OSError(error.errno, f"{text} ({said})" if said else text, error.filename or fstype)
