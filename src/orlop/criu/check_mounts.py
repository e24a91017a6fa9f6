"""Compare the mounts that CRIU has made with the bundle, before anybody inside sees them.

A container without CAP_SYS_ADMIN cannot have changed a mount that its start has made. So there
must be exactly the bundle's mounts, with the same restrictions, and everything that has to be
masked must be masked.
"""

from __future__ import annotations

import errno
import os
import stat

from orlop.criu.check import NotOfBundleError, may_mount
from orlop.criu.mountinfo import mounts_of
from orlop.criu.mounts import is_staged, resolved
from orlop.kernel.mount import MountAttr
from orlop.kernel.paths import open_in_root
from orlop.model.light import TYPE_CHECKING
from orlop.runtime.plan import MountKind

if TYPE_CHECKING:
    from orlop.criu.mountinfo import Mounted
    from orlop.criu.mounts import Stage
    from orlop.runtime.child import ContainerPlan
    from orlop.runtime.plan import MountPlan, ProcessPlan

_NULL = os.makedev(1, 3)
_CGROUP = ("cgroup", "cgroup2")
_STRICT = {
    "ro": int(MountAttr.RDONLY),
    "nosuid": int(MountAttr.NOSUID),
    "nodev": int(MountAttr.NODEV),
    "noexec": int(MountAttr.NOEXEC),
}


def check_mounts(pid: int, plan: ContainerPlan, stage: Stage, process: ProcessPlan) -> None:
    """Raise NotOfBundleError if process *pid* has mounts that the bundle does not give it."""
    if may_mount(process):
        return
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check = _Check(root, plan, stage)
        for mounted in mounts_of(pid):
            if why := check.of(mounted):
                raise NotOfBundleError(f"{why} on {mounted.mountpoint}")
        for path in plan.masked:
            if not _is_hidden(root, path):
                raise NotOfBundleError(f"{path} is not masked")
        for path in plan.readonly:
            if not _is_readonly(root, path):
                raise NotOfBundleError(f"{path} is not read-only")
    finally:
        os.close(root)


class _Check:
    """The allowed mounts by place."""

    def __init__(self, root: int, plan: ContainerPlan, stage: Stage) -> None:
        self._plan = plan
        self._stage = stage
        self._external = {external.mountpoint: external.source for external in stage.external}
        self._cgroup = [
            word
            for planned in plan.mounts
            if planned.kind is MountKind.CGROUP
            for word in _strict_words(planned)
        ]
        self._covers = {resolved(root, path) for path in plan.masked}
        self._readonly = {resolved(root, path) for path in plan.readonly}

    def of(self, mounted: Mounted) -> str:
        """Return what is wrong with a mount, or ""."""
        place = mounted.mountpoint
        if place == "/":
            wanted = ("ro",) if self._plan.root_readonly else ()
            return self._not_as_staged(mounted, self._stage.root) or _laxer(mounted, wanted)
        source = self._external.get(place, "")
        why = self._not_as_staged(mounted, source) if source else "another mount"
        planned = [plan for where, plan in self._stage.places if where == place]
        if planned or source:
            return why if not any(_is(mounted, plan) for plan in planned) else ""
        if place in self._covers or (place == "/dev/console" and mounted.fstype == "devpts"):
            return ""  # a cover is looked at by what it shows
        if any(f"{place}/".startswith(f"{path}/") for path in self._readonly):
            return _laxer(mounted, ("ro",))
        return "a mount that it does not have"

    def _not_as_staged(self, mounted: Mounted, source: str) -> str:
        staged = self._stage.mounted.get(source)
        if mounted.fstype in _CGROUP:  # of a folder that is no mount by itself
            return _laxer(mounted, self._cgroup)
        if staged is None:
            return "" if mounted.fstype == "devtmpfs" else "another mount"
        if (mounted.device, mounted.root) != (staged.device, staged.root):
            return "another mount"
        return _laxer(mounted, [word for word in staged.options.split(",") if word in _STRICT])


def _is(mounted: Mounted, plan: MountPlan) -> bool:
    """Whether a new file system matches *plan*."""
    if is_staged(plan):
        return False
    wanted = _strict_words(plan)
    if plan.kind is MountKind.CGROUP and mounted.fstype == "tmpfs":  # with a folder for each
        return not _laxer(mounted, [word for word in wanted if word != "ro"])
    types = _CGROUP if plan.kind is MountKind.CGROUP else (plan.fstype,)
    return mounted.fstype in types and not _laxer(mounted, wanted)


def _strict_words(plan: MountPlan) -> list[str]:
    return [word for word, bit in _STRICT.items() if plan.options.set_ & bit]


def _laxer(mounted: Mounted, wanted: list[str] | tuple[str, ...]) -> str:
    """Return those *wanted* words that a mount lacks, or ""."""
    missing = [word for word in wanted if word not in mounted.options.split(",")]
    return f"a mount without {', '.join(missing)}" if missing else ""


def _is_hidden(root: int, path: str) -> bool:
    """Whether *path* is masked: it is the null device, or an empty folder."""
    fd = _open(root, path)
    if fd < 0:
        return True
    try:
        status = os.fstat(fd)
        if not stat.S_ISDIR(status.st_mode):
            return stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            return not os.listdir(folder)
        finally:
            os.close(folder)
    finally:
        os.close(fd)


def _is_readonly(root: int, path: str) -> bool:
    fd = _open(root, path)
    if fd < 0:
        return True
    try:
        return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)
    finally:
        os.close(fd)


def _open(root: int, path: str) -> int:
    try:
        return open_in_root(root, path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return -1
        raise
