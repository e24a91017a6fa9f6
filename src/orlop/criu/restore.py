"""Restore processes from images with CRIU, as our own children.

    restore                              criu                        first process
      | root and binds mounted              |                             |
      | spawned in the cgroup, request ---->| clone ----------------------| our child, too
      |<------------- "setup-namespaces"    |                             |
      | loopback, hooks                     | memory, files, …            |
      |<------------ "orphan-pts-master"    |                             |
      |<------------------- "pre-resume"    |                             | complete, stopped
      | checked, committed ---------------->| ends                        | runs

The bundle determines what runs and with which rights; the images only the state.
"""

from __future__ import annotations

import os
import signal

from orlop.criu import conversation as criu
from orlop.criu.check import Bounds, cgroups_of, check_restored, children_of, tree
from orlop.criu.check_mounts import check_mounts
from orlop.criu.mounts import External, Stage, own_mounts, protect_root, stage
from orlop.criu.options import (
    DESCRIPTORS,
    EXTERNAL_FILE,
    EXTERNAL_NAMESPACES,
    EXTERNAL_TERMINAL,
    check_images,
    external_namespace,
)
from orlop.errors import CorruptError, InvalidArgumentError
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import FILES, Namespace
from orlop.kernel.process import pidfd_open
from orlop.kernel.procstat import is_ending
from orlop.model import jsontext
from orlop.model.light import TYPE_CHECKING, NamedTuple
from orlop.model.light_context import ExitStack, suppress
from orlop.model.oci import Resources
from orlop.runtime import failure
from orlop.runtime.bundle import Starting, Stdio
from orlop.runtime.container import plan_container
from orlop.runtime.hooks import Hooks, plan_hooks
from orlop.runtime.parent import joined
from orlop.runtime.plan import Namespaces, plan_namespaces, plan_process
from orlop.runtime.start import make_filter, resources_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from orlop.criu.options import Folders
    from orlop.runtime.bundle import Bundle
    from orlop.runtime.cgroups.interface import Cgroup

_MOST_DESCRIPTORS = 64 << 10
_MOST_NAME = 4096
#: CRIU works with processes of its own in the container's cgroup.
_ROOM: Resources = {"pids": {"limit": -1}}
_STREAM_KINDS = ("pipe:[", "socket:[", EXTERNAL_FILE, EXTERNAL_TERMINAL)


class Origin(NamedTuple):
    """The source of a restore."""

    place: str  # an empty folder to mount in, in a private mount namespace
    open: Callable[[ExitStack], Folders]  # called once, in CRIU's mount namespace
    wanted: Mapping[str, Any]  # options for CRIU, besides those that follow from the bundle


class Restoring:
    """One restore, and its state between CRIU's notifications.

    *commit* is called when the container is complete and stopped. It runs when commit
    returns, and is killed if commit raises. The result of commit is the outcome.
    """

    def __init__(
        self,
        bundle: Bundle,
        cgroup: Cgroup,
        origin: Origin,
        commit: Callable[[Starting], Starting],
    ) -> None:
        config = bundle.config
        self._origin = origin
        self._commit = commit
        self._bundle = bundle
        self._cgroup = cgroup
        self._namespaces = plan_namespaces(config.get("linux", {}))
        self._plan = plan_container(bundle, self._namespaces, cgroup)
        self._bounds = Bounds(
            self._namespaces,
            plan_process(config.get("process", {})),
            filtered=make_filter(config) is not None,
            cgroups={},
        )
        self._what = f"cannot restore container {bundle.id}"
        self._talk: criu.Conversation | None = None
        self._staged: Stage | None = None
        self._pid = 0
        self._dying = False
        self._console: int | None = None
        self._starting: Starting | None = None

    def run(self, stdio: Stdio) -> Starting:
        """Restore; *stdio* replaces the streams that were files of the host."""
        before = set(_children())
        try:
            with ExitStack() as ours:
                self._restore(stdio, ours)
        except BaseException as error:
            self._abort(before)
            if isinstance(error, OSError):
                raise failure.translate(self._what, "restore", error) from error
            raise
        assert self._starting is not None
        return self._starting

    def _restore(self, stdio: Stdio, ours: ExitStack) -> None:
        inherited = self._open_namespaces(ours)
        with own_mounts():  # the folders too: CRIU mounts in them
            folders = self._origin.open(ours)
            check_images(folders.images)
            streams = _read_descriptors(folders)
            inherited += _streams(streams, stdio)
            staged = self._staged = stage(self._plan, self._origin.place)
            self._cgroup.update(_ROOM)  # until _check()
            process = criu.Process(stdio, [fd for _, fd in inherited], self._cgroup.enter)
            talk = self._talk = ours.enter_context(criu.Conversation(process))
        self._bounds = self._bounds._replace(cgroups=cgroups_of(talk.pid))
        wanted = {
            **self._origin.wanted,
            "images_dir_fd": folders.images,
            "work_dir_fd": folders.work,
            "root": staged.root,
            "rst_sibling": True,
            "evasive_devices": True,
            # Its older code cannot cover files of a user namespace.
            "mntns_compat_mode": self._namespaces.idmap is None and staged.has_distinct_slaves(),
            "inherit_fd": [
                {"key": key, "fd": number}
                for number, (key, _) in enumerate(inherited, criu.FIRST_EXTRA)
            ],
            "skip_file_rwx_check": any(stream.startswith(EXTERNAL_FILE) for stream in streams),
            "ext_mnt": [_mount(external) for external in staged.external],
            "join_ns": _join(self._namespaces),
            "cg_root": _cgroup_roots(self._bounds.cgroups),
        }
        criu.run(talk, criu.RESTORE, wanted, folders.log, self._happened)

    def _open_namespaces(self, ours: ExitStack) -> list[tuple[str, int]]:
        """Open the namespaces that are not in the images, each with CRIU's name for it."""
        opened = []
        for kind, path in self._namespaces.join:
            if kind in EXTERNAL_NAMESPACES:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                ours.callback(os.close, fd)
                opened.append((external_namespace(kind), fd))
        return opened

    def _happened(self, event: str, pid: int, fds: Sequence[int]) -> None:
        self._pid = pid or self._pid
        if event == "orphan-pts-master" and fds:
            self._console, *rest = fds
            for fd in rest:
                os.close(fd)
        elif event == "setup-namespaces":
            self._set_up_network()
        elif event == "pre-resume":
            self._check()
            self._note()
        elif not event:
            self._look_after_criu()

    def _check(self) -> None:
        """Compare everything that CRIU has restored with the bundle."""
        assert self._staged is not None
        check_restored(self._pid, self._bounds)
        if self._plan.root_readonly:
            protect_root(self._pid)
        check_mounts(self._pid, self._plan, self._staged, self._bounds.process)
        self._cgroup.update(resources_of(self._bundle.config))  # "full" has set the images'

    def _look_after_criu(self) -> None:
        """Kill CRIU if it waits for a process that waits for it.

        After a failed restore CRIU kills the first process, which cannot end before all
        others in its pid namespace have; CRIU is their tracer and does not release them.
        """
        was_dying, self._dying = self._dying, bool(self._pid) and is_ending(self._pid)
        if was_dying and self._dying and self._talk is not None:
            os.kill(self._talk.pid, signal.SIGKILL)

    def _set_up_network(self) -> None:
        """Set up a new network namespace as a start does; hooks do the rest."""
        if Namespace.NET in self._namespaces.new:
            fd = os.open(f"/proc/{self._pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                with joined([(Namespace.NET, fd)]):
                    raise_loopback()
            finally:
                os.close(fd)
        hooks = Hooks(self._bundle, plan_hooks(self._bundle.config))
        try:
            hooks.run_by_parent(self._what, self._pid)
        finally:
            hooks.close()

    def _note(self) -> None:
        """Commit: the container is complete, and waits."""
        starting = Starting(
            self._what,
            self._pid,
            pidfd_open(self._pid),
            -1,
            self._console,
            self._cgroup,
            owns_cgroup=True,
        )
        try:
            self._starting = self._commit(starting)
        except BaseException:
            os.close(starting.pidfd)
            raise
        self._console = self._starting.console

    def _abort(self, before: set[int]) -> None:
        """Kill and reap the processes that CRIU has made; they are our own children."""
        for pid in set(_children()) - before:
            with suppress(OSError):
                for task in tree(pid):
                    os.kill(task, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if self._starting is not None:
            os.close(self._starting.pidfd)
        if self._console is not None:
            os.close(self._console)


def _children() -> list[int]:
    return [pid for thread in os.listdir("/proc/self/task") for pid in children_of("self", thread)]


def _mount(external: External) -> dict[str, str]:
    return {"key": external.mountpoint, "val": external.source}


def _join(namespaces: Namespaces) -> list[dict[str, str]]:
    """Return the namespaces that CRIU itself joins by path."""
    for kind, path in namespaces.join:
        if kind in (Namespace.CGROUP, Namespace.MOUNT):
            raise InvalidArgumentError(
                f"criu cannot restore into the {FILES[kind]} namespace {path}"
            )
    return [
        {"ns": FILES[kind], "ns_file": path}
        for kind, path in namespaces.join
        if kind not in EXTERNAL_NAMESPACES
    ]


def _cgroup_roots(places: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"ctrl": name, "path": path} for names, path in places.items() for name in names.split(",")
    ]


def _streams(streams: Sequence[str], stdio: Stdio) -> list[tuple[str, int]]:
    """Replace streams that were the host's by ours; leave the container's own alone."""
    places = dict(zip(reversed(streams), reversed(stdio), strict=False))  # of equal ones the first
    return [(name, fd) for name, fd in places.items() if name.startswith(_STREAM_KINDS)]


def _read_descriptors(folders: Folders) -> list[str]:
    """Return the standard streams as recorded at the checkpoint."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(DESCRIPTORS, flags, dir_fd=folders.images), "rb") as file:
            streams: Any = jsontext.loads(file.read(_MOST_DESCRIPTORS))
    except (OSError, CorruptError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else error
        raise InvalidArgumentError(f"the checkpoint has no good {DESCRIPTORS}: {reason}") from None
    if not isinstance(streams, list) or not all(isinstance(one, str) for one in streams):
        raise InvalidArgumentError(f"the checkpoint's {DESCRIPTORS} is no list of texts")
    return [one[:_MOST_NAME] for one in (*streams, "", "", "")[:3]]
