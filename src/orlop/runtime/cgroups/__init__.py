"""Cgroups: limits, device rules, counting, freezing and killing.

    cgroup = cgroups.create("/orlop/abc", resources)

`interface.Cgroup` says what it can do, and how a child gets in fast.
"""

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.oci import Resources
from orlop.runtime.cgroups.control import walk_in
from orlop.runtime.cgroups.interface import Cgroup, Statistics
from orlop.runtime.cgroups.layout import Layout, detect
from orlop.runtime.cgroups.v1 import V1Cgroup
from orlop.runtime.cgroups.v2 import V2Cgroup

__all__ = ["Cgroup", "Statistics", "create", "open", "walk_in"]


def create(cgroups_path: str, resources: Resources, *, layout: Layout | None = None) -> Cgroup:
    """Make the cgroup and return it with its limits in force.

    *cgroups_path* is the same in every hierarchy, from the mount's root. Parents
    are made as needed and stay. Nothing is left behind on failure.

    Raises:
        AlreadyExistsError: there is one.
        InvalidArgumentError, UnsupportedError, PermissionDeniedError,
        WrongStateError: a limit, named in the message, cannot be put in force.
    """
    path = _checked(cgroups_path)
    layout = layout or detect()
    if layout.v1:
        return V1Cgroup.create(layout, path, resources)
    return V2Cgroup.create(layout, path, resources)


def open(cgroups_path: str, *, layout: Layout | None = None) -> Cgroup:  # noqa: A001 - cgroups.open
    """Return a handle of the cgroup at *cgroups_path*, which is not looked for."""
    path = _checked(cgroups_path)
    layout = layout or detect()
    return V1Cgroup(layout, path) if layout.v1 else V2Cgroup(layout, path)


def _checked(cgroups_path: str) -> str:
    """Make a relative path absolute; refuse what leaves or is the root."""
    if cgroups_path.count(":") == 2:
        raise UnsupportedError(
            f"cgroupsPath {cgroups_path!r} is in systemd's form",
            hint="use a path: cgroups are made directly, not by systemd",
        )
    names = [name for name in cgroups_path.split("/") if name not in ("", ".")]
    if not names or ".." in names or "\0" in cgroups_path:
        raise InvalidArgumentError(f"cgroupsPath {cgroups_path!r} names no cgroup")
    return "/" + "/".join(names)
