"""Assemble the root file system: from a list of mounts to one detached mount."""

import errno
import os

from orlop.kernel.idmap import acting_as
from orlop.kernel.mount import MountAttr, mount_setattr
from orlop.model.light import NamedTuple, Sequence
from orlop.model.light_context import ExitStack
from orlop.model.mount import Mount
from orlop.runtime.filesystems import bind, filesystem, set_attributes
from orlop.runtime.options import Special, parse
from orlop.runtime.overlay import overlay

_IDMAP = int(MountAttr.IDMAP)


class Owner(NamedTuple):
    """The owner of the root: a user namespace, and the host's id of its user 0."""

    userns_fd: int
    uid: int
    gid: int


def assemble(mounts: Sequence[Mount], *, owner: Owner | None = None) -> int:
    """Make *mounts* and return the root, the one whose target is "/", detached.

    With *owner* every layer is id-mapped by its user namespace, so that nothing on
    disk changes owner; only root of the user namespace in which the file systems
    were mounted may do that. Everything made for the root lives as long as the root.
    """
    made: list[int] = []
    with ExitStack() as undo:
        for mount in mounts:
            fd = _make(mount, made, owner)
            undo.callback(os.close, fd)
            made.append(fd)
            if mount.target == "/":
                return os.dup(fd)
    raise OSError(errno.EINVAL, "no mount in the list is the root")


def _make(mount: Mount, made: Sequence[int], owner: Owner | None) -> int:
    options = parse([_found(option, made) for option in mount.options])
    if mount.type == "overlay":
        if owner is None:
            return overlay(mount.source, options, made)
        # Overlay writes to its upper layer as the user who mounts it, who must be mapped.
        with acting_as(owner.uid, owner.gid):
            return overlay(mount.source, options, made, userns_fd=owner.userns_fd)
    if mount.type == "bind":
        fd = bind(mount.source, recursive=Special.RBIND in options.special)
        set_attributes(fd, options)
    elif mount.type == "ext4":
        return of_file(mount)  # the overlay maps the folders that it uses of it
    else:
        fd = filesystem(mount.type, mount.source, options)
    if owner is not None:
        mount_setattr(fd, set_=_IDMAP, userns_fd=owner.userns_fd)
    return fd


def of_file(mount: Mount) -> int:
    """Mount the file system in a file, detached."""
    from orlop.kernel.loop import attached  # rare

    with attached(mount.source) as device:
        return filesystem(mount.type, device, parse(mount.options))


def _found(option: str, made: Sequence[int]) -> str:
    """Return the option with `mount:N/NAME` replaced by a path in the mount that was made."""
    key, found, rest = option.partition("=mount:")
    number, inside, name = rest.partition("/")
    return f"{key}=/proc/self/fd/{made[int(number)]}/{name}" if found and inside else option
