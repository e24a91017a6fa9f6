"""Detached mounts: new file systems, and copies of existing mounts."""

import errno
import os

from orlop.kernel.mount import (
    MountAttr,
    OpenTree,
    clone_mount,
    fs_messages,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_reconfigure,
    fsconfig_string,
    fsmount,
    fsopen,
    fspick,
    mount_points,
    mount_setattr,
    open_tree,
)
from orlop.kernel.paths import open_beneath
from orlop.model.light_context import ExitStack
from orlop.runtime.options import Options

#: In a bind's source: no link is followed in the part after it.
BENEATH = "/./"

_READ_ONLY_DEVICE = (errno.EACCES, errno.EROFS)
_RDONLY = int(MountAttr.RDONLY)
_FLAGS = int(
    MountAttr.RDONLY | MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC | MountAttr.NOSYMFOLLOW
)
_LOCKED = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
_CLONE = OpenTree.CLONE
_CLONE_TREE = OpenTree.CLONE | OpenTree.RECURSIVE


def filesystem(fstype: str, source: str, options: Options, *, context: int = -1) -> int:
    """Return a detached mount of a new file system; OSError carries the kernel's message.

    An fsopen(2) *context* made by another process is closed.
    """
    if context >= 0:
        return _configured(context, fstype, source, options)
    try:
        return _configured(fsopen(fstype), fstype, source, options)
    except OSError as error:
        if error.errno not in _READ_ONLY_DEVICE or not options.set_ & _RDONLY:
            raise
    options = options._replace(filesystem=(*options.filesystem, ("ro", None)))
    return _configured(fsopen(fstype), fstype, source, options)


def reconfigure(mount: int, options: Options) -> None:
    """Change the options of the mount *mount* and of its file system."""
    config = fspick(mount)  # fails if it is not a mount
    try:
        if options.filesystem:
            _configure(config, options)
            fsconfig_reconfigure(config)
    except OSError as error:
        raise explained(error, config, "remount") from None
    finally:
        os.close(config)
    set_attributes(mount, options)


def _configured(config: int, fstype: str, source: str, options: Options) -> int:
    try:
        if source:
            fsconfig_string(config, "source", source)
        _configure(config, options)
        fsconfig_create(config)
        return fsmount(config, options.set_)
    except OSError as error:
        raise explained(error, config, fstype) from None
    finally:
        os.close(config)


def _configure(config: int, options: Options) -> None:
    for key, value in options.filesystem:
        if value is None:
            fsconfig_flag(config, key)
        else:
            fsconfig_string(config, key, value)


def bind(source: str, *, recursive: bool) -> int:
    """Return a detached copy of the mount at *source*, a folder or a file.

    The part of *source* after "/./" cannot lead out of the part before it. This is for a
    folder whose parents a container can write to.
    """
    trusted, mark, inside = source.partition(BENEATH)
    if not mark:
        return open_tree(source, _CLONE_TREE if recursive else _CLONE)
    root = os.open(trusted, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        folder = open_beneath(root, inside)
    finally:
        os.close(root)
    try:
        return clone_mount(folder, recursive=recursive)
    finally:
        os.close(folder)


def set_attributes(fd: int, options: Options) -> None:
    """Set a mount's attributes and propagation."""
    if options.tree_set or options.tree_clear:
        mount_setattr(fd, set_=options.tree_set, clear=options.tree_clear, recursive=True)
    if options.set_ or options.clear:
        mount_setattr(fd, set_=options.set_, clear=options.clear)
    for propagation, recursive in options.propagation:
        mount_setattr(fd, propagation=propagation, recursive=recursive)


def set_bind_attributes(fd: int, options: Options) -> None:
    """Set a bind mount's attributes. If one flag is named, its source's other flags are cleared.

    So does mount(2) with MS_REMOUNT. Flags that a user namespace locks stay.
    """
    if options.set_ or options.clear:
        unnamed = _FLAGS & ~(options.set_ | options.tree_set)
        try:
            mount_setattr(fd, set_=options.set_, clear=options.clear | unnamed)
        except PermissionError:
            pass
        else:
            options = options._replace(set_=0, clear=0)
    set_attributes(fd, options)


def set_locked_attributes(fd: int, source: str, options: Options) -> None:
    """Set the attributes of a bind mount of *source* that a user namespace may set.

    PermissionError if that clears a flag of the source. mount_namespaces(7), "Restrictions".
    """
    if not options.clear and not options.tree_clear:
        set_attributes(fd, options)
        return
    with ExitStack() as ours:
        copies = [fd]
        for path in _mounts_below(source) if options.tree_clear else ():
            copies.append(os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=fd))
            ours.callback(os.close, copies[-1])
        before = [os.fstatvfs(copy).f_flag for copy in copies]
        set_attributes(fd, options)
        after = [os.fstatvfs(copy).f_flag for copy in copies]
    if any(was & ~now & _LOCKED for was, now in zip(before, after, strict=True)):
        reason = "a user namespace may not take a flag of this bind source, or of a mount below it"
        raise PermissionError(errno.EPERM, reason, source)


def _mounts_below(source: str) -> list[str]:
    folder = os.path.realpath(source).rstrip("/") + "/"
    below = (place for place, _ in mount_points() if place.startswith(folder))
    return [place[len(folder) :] for place in below if place != folder]


def explained(error: OSError, config: int, fstype: str) -> OSError:
    """Add the kernel's messages about the configuration on *config* to *error*."""
    said = fs_messages(config)
    text = error.strerror or os.strerror(error.errno or 0)
    return OSError(error.errno, f"{text} ({said})" if said else text, error.filename or fstype)
