"""The root file system: from a list of mounts to one detached mount."""

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
    raise OSError(errno.EINVAL, "no mount in the list is the root")


def _make(mount: Mount, made: Sequence[int], owner: Owner | None) -> int:
    options = parse([_found(option, made) for option in mount.options])
    if mount.type == "overlay":
        if owner is None:
            return overlay(mount.source, options, made)
        # Overlay works in its upper layer as who mounts it, so that must be somebody there.
        with acting_as(owner.uid, owner.gid):
            return overlay(mount.source, options, made, userns_fd=owner.userns_fd)
    if mount.type == "bind":
        fd = bind(mount.source, recursive=Special.RBIND in options.special)
        set_attributes(fd, options)
    elif mount.type == "ext4":
        return of_file(mount)  # the overlay maps the folders that it takes of it
    else:
        fd = filesystem(mount.type, mount.source, options)
    if owner is not None:
        mount_setattr(fd, set_=_IDMAP, userns_fd=owner.userns_fd)
    return fd


def of_file(mount: Mount) -> int:
    """Make the detached mount of a file system in a file."""
    from orlop.kernel.loop import attached  # rare

    with attached(mount.source) as device:
        return filesystem(mount.type, device, parse(mount.options))


def _found(option: str, made: Sequence[int]) -> str:
    """Return the option with the path of what is in a mount that was made: `mount:N/NAME`."""
    key, found, rest = option.partition("=mount:")
    number, inside, name = rest.partition("/")
    return f"{key}=/proc/self/fd/{made[int(number)]}/{name}" if found and inside else option
