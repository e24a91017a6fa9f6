"""Cgroups: limits, device rules, statistics, freezing and killing.

    cgroup = cgroups.create("/orlop/abc", resources)

`interface.Cgroup` says what a cgroup can do, and how a child enters it quickly.
"""

import errno
import os

from orlop.errors import (
    AlreadyExistsError,
    ExhaustedError,
    InvalidArgumentError,
    OrlopError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
)
from orlop.model.light import TYPE_CHECKING
from orlop.model.light_context import suppress
from orlop.model.oci import Resources
from orlop.runtime.cgroups.control import walk_in
from orlop.runtime.cgroups.files import below
from orlop.runtime.cgroups.interface import Cgroup, Statistics
from orlop.runtime.cgroups.layout import Layout, detect

if TYPE_CHECKING:
    from orlop.runtime.cgroups.v1 import V1Cgroup
    from orlop.runtime.cgroups.v2 import V2Cgroup

__all__ = ["Cgroup", "Statistics", "create", "create_or_take", "names", "open", "walk_in"]


def create(
    cgroups_path: str, resources: Resources, *, layout: Layout | None = None, take: bool = False
) -> Cgroup:
    """Make the cgroup and return it with its limits in force; *take* an existing one.

    *cgroups_path* is the same in every hierarchy, from the mount's root. Missing parents
    are made, and stay. A failure leaves nothing behind.

    Raises:
        AlreadyExistsError: it exists.
        InvalidArgumentError, UnsupportedError, PermissionDeniedError,
        WrongStateError: a limit, named in the message, cannot be set.
    """
    path = _checked(cgroups_path)
    layout = layout or detect()
    try:
        return _driver(layout).create(layout, path, resources, take=take)
    except OSError as error:
        raise _translated(path, error) from error


def create_or_take(
    cgroups_path: str, resources: Resources, *, layout: Layout | None = None
) -> Cgroup:
    """Like create(), but take an empty cgroup of that name with its limits.

    It may have been made for the container. If it has cgroups below it, a crash left it,
    and it is made again.

    Raises:
        AlreadyExistsError: it exists and has processes in it.
    """
    try:
        return create(cgroups_path, resources, layout=layout)
    except AlreadyExistsError:
        old = open(cgroups_path, layout=layout)
        if next(old.pids(), None) is not None:
            raise
        if any(next(below(place), None) for place in old.directories.values()):
            old.remove()
        else:
            with suppress(FileNotFoundError):
                old.thaw()
        return create(cgroups_path, resources, layout=layout, take=True)


def names(parent: str, *, layout: Layout | None = None) -> set[str]:
    """Return the names of the cgroups directly below *parent*, in any hierarchy.

    Spare cgroups, whose names begin with a dot, are left out.

    For finding what a crash left: open(f"{parent}/{name}").remove().
    """
    path = _checked(parent)
    found: set[str] = set()
    for hierarchy in (layout or detect()).hierarchies:
        try:
            with os.scandir(hierarchy.mountpoint + path) as entries:
                folders = (entry.name for entry in entries if entry.is_dir())
                found.update(name for name in folders if not name.startswith("."))
        except FileNotFoundError:
            continue
    return found


def open(  # noqa: A001 - cgroups.open
    cgroups_path: str, *, layout: Layout | None = None, systemd: bool = False
) -> Cgroup:
    """Return a handle of the cgroup at *cgroups_path*, without checking that it exists.

    With *systemd* it is a scope's cgroup, and *cgroups_path* its Cgroup.path.
    """
    if systemd:
        from orlop.runtime.cgroups import systemd as scopes  # only for the systemd driver

        return scopes.open(cgroups_path, layout=layout)
    path = _checked(cgroups_path)
    layout = layout or detect()
    return _driver(layout)(layout, path)


def _driver(layout: Layout) -> "type[V1Cgroup] | type[V2Cgroup]":
    """Return the host's driver; the other one is not imported."""
    if layout.v1:
        from orlop.runtime.cgroups.v1 import V1Cgroup

        return V1Cgroup
    from orlop.runtime.cgroups.v2 import V2Cgroup

    return V2Cgroup


def _translated(path: str, error: OSError) -> OrlopError:
    """Return the error for a cgroup's directory that cannot be made."""
    where = error.filename or path
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDeniedError(
            f"no permission to make cgroup {where}", hint="it takes root, and writable cgroups"
        )
    if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EAGAIN):
        return ExhaustedError(f"no room for cgroup {where}: a limit above it is reached")
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        return InvalidArgumentError(f"{path!r} cannot be a cgroup's path")
    return UnavailableError(f"cannot make cgroup {where}: {error.strerror}")


def _checked(cgroups_path: str) -> str:
    """Make a relative path absolute; refuse one that is the root or leads outside it."""
    if cgroups_path.count(":") == 2:
        raise UnsupportedError(
            f"cgroupsPath {cgroups_path!r} is in systemd's form",
            hint="use a path, or the cgroup driver systemd",
        )
    names = [name for name in cgroups_path.split("/") if name not in ("", ".")]
    if not names or ".." in names or "\0" in cgroups_path:
        raise InvalidArgumentError(f"cgroupsPath {cgroups_path!r} names no cgroup")
    return "/" + "/".join(names)
