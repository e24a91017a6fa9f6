"""Overlay mounts: one file system from a stack of layers, on every supported kernel.

    6.15    a layer may be a detached mount
    6.13    a layer may be given by descriptor
    6.5     layers may be given one by one, each up to 255 bytes
    before  all layers in one option of mount(2), up to a page together

The newest interface is tried first; what it refuses is tried with the older ones.
"""

import errno
import os

from orlop.kernel.mount import (
    MountAttr,
    OpenTree,
    Unmount,
    fsconfig_create,
    fsconfig_fd,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    mount,
    mount_setattr,
    move_mount,
    open_tree,
    umount,
)
from orlop.model.light import Sequence
from orlop.model.light_context import ExitStack
from orlop.runtime.filesystems import explained
from orlop.runtime.options import Options

_LONGEST_STRING = 255  # fsconfig(2)
_CLONE = OpenTree.CLONE
_IDMAP = int(MountAttr.IDMAP)
_LAYER_KEYS = frozenset(("lowerdir+", "datadir+"))
_PATH = os.O_PATH | os.O_CLOEXEC


def overlay(
    source: str, options: Options, made: Sequence[int], *, userns_fd: int | None = None
) -> int:
    """Return a detached overlay mount; `lowerdir+=mount:N` is item N of *made*.

    With *userns_fd* each layer is id-mapped. Without it, and only in a temporary mount
    namespace, *made* may be attached for an old kernel.
    """
    try:
        return _overlay(source, options, made, userns_fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        first = error
    if userns_fd is None:
        for way in (_with_attached_layers, _in_one_call):
            try:
                return way(source, options, made)
            except OSError:
                continue
    raise first


def _with_attached_layers(source: str, options: Options, made: Sequence[int]) -> int:
    """Attach the layers on top of each other, where no path leads to them."""
    if not made:
        raise OSError(errno.EINVAL, "no layers to attach")
    host = os.open("/", _PATH)
    try:
        for fd in made:
            move_mount(fd, host)
    finally:
        os.close(host)
    return _overlay(source, options, made, None)


def _in_one_call(source: str, options: Options, made: Sequence[int]) -> int:
    """Mount on a layer's own folder, copy the mount, and unmount it again."""
    with ExitStack() as layers:
        lower: list[int] = []
        words: list[str] = []
        for key, value in options.filesystem:
            if key == "lowerdir+" and value:
                layer = _lower(value, made, layers, None)
                lower.append(_opened(value, layers) if layer is None else layer)
            elif key in ("upperdir", "workdir") and value:
                words.append(f"{key}=/proc/self/fd/{_opened(value, layers)}")
            else:
                words.append(key if value is None else f"{key}={value}")
        words.append("lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in lower))
        place = os.readlink(f"/proc/self/fd/{lower[-1]}")
        mount(source, place, fstype="overlay", data=",".join(words))
        try:
            fd = open_tree(place, _CLONE)
        finally:
            umount(place, Unmount.DETACH)
        mount_setattr(fd, set_=options.set_, clear=options.clear)
        return fd


def _overlay(source: str, options: Options, made: Sequence[int], userns_fd: int | None) -> int:
    config = fsopen("overlay")
    try:
        fsconfig_string(config, "source", source or "overlay")
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
        raise explained(error, config, "overlay") from None
    finally:
        os.close(config)


def _writable_layer(options: Options, layers: ExitStack, userns_fd: int | None) -> dict[str, int]:
    """Open upperdir and workdir if a string does not work: too long, or to be id-mapped.

    Overlay requires both on one mount, so their common folder is mapped.
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


def _opened(path: str, layers: ExitStack) -> int:
    fd = os.open(path, _PATH)
    layers.callback(os.close, fd)
    return fd


def _lower(value: str, made: Sequence[int], layers: ExitStack, userns_fd: int | None) -> int | None:
    """Return the descriptor of a lower layer, or None if its path works."""
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
    except OSError:  # before Linux 6.13 a layer must be a path
        fsconfig_string(config, key, f"/proc/self/fd/{fd}")
