"""Dump running processes to images, with CRIU."""

from __future__ import annotations

import math
import os
import stat

from orlop.criu import conversation as criu
from orlop.criu.mountinfo import mounts_of
from orlop.criu.mounts import external_mounts
from orlop.criu.options import (
    DESCRIPTORS,
    EXTERNAL_FILE,
    EXTERNAL_NAMESPACES,
    EXTERNAL_TERMINAL,
    external_namespace,
)
from orlop.errors import UnsupportedError
from orlop.model import jsontext
from orlop.model.light import TYPE_CHECKING, NamedTuple
from orlop.model.light_context import suppress
from orlop.runtime.container import plan_container
from orlop.runtime.plan import MountKind, plan_namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from orlop.criu.conversation import OnNotify
    from orlop.criu.options import Folders
    from orlop.runtime.bundle import Bundle


class Subject(NamedTuple):
    """A container whose processes run, or are frozen."""

    pid: int  # of its first process
    bundle: Bundle  # its config.json has the namespaces that were joined by path
    root: str  # the root's path on the host, real or not
    freezer: str | None  # the cgroup that stops them, or has stopped them
    streams: Sequence[str]  # the standard streams at its start, as from readlink(2)


def dump(
    kind: int,
    subject: Subject,
    wanted: Mapping[str, Any],
    folders: Folders,
    on_notify: OnNotify,
    *,
    patience_s: float = math.inf,
) -> None:
    """Run CRIU's *kind*, DUMP or SINGLE_PRE_DUMP, with the options *wanted*.

    If this raises, the processes keep running; also if CRIU is silent for *patience_s*.
    """
    options = {
        "pid": subject.pid,
        "root": subject.root,
        "freeze_cgroup": subject.freezer,
        "external": _joined(subject.bundle),
        **wanted,
        "images_dir_fd": folders.images,
        "work_dir_fd": folders.work,
    }
    if kind == criu.DUMP:
        external = _externals(subject.pid, terminals=bool(wanted.get("shell_job")))
        options |= _resources(subject, external)
        _write_descriptors(folders, subject.streams, external)
    with criu.Conversation(criu.Process(patience_s=patience_s)) as talk:
        criu.run(talk, kind, options, folders.log, on_notify)


def freezer(directories: Mapping[str, str]) -> str | None:
    """Return the cgroup that can stop all processes at once, or None: then one by one."""
    return next((path for path, _ in _freezers(directories)), None)


def frozen(directories: Mapping[str, str]) -> str | None:
    """Return the cgroup that has stopped them, and that CRIU has to thaw."""
    return next((path for path, file in _freezers(directories) if _is_frozen(file)), None)


def _freezers(directories: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for hierarchy, name in (("", "cgroup.freeze"), ("freezer", "freezer.state")):
        path = directories.get(hierarchy)
        if path and os.path.exists(f"{path}/{name}"):
            yield path, f"{path}/{name}"


def _is_frozen(file: str) -> bool:
    with open(file) as opened:
        return opened.read().strip() in ("1", "FROZEN", "FREEZING")


def _joined(bundle: Bundle) -> list[str]:
    """Return the kinds of namespace that were joined, and so are not restored."""
    namespaces = plan_namespaces(bundle.config.get("linux", {}))
    return [
        f"{EXTERNAL_NAMESPACES[kind]}[{os.stat(path).st_ino}]:{external_namespace(kind)}"
        for kind, path in namespaces.join
        if kind in EXTERNAL_NAMESPACES
    ]


def _resources(subject: Subject, external: dict[int, str]) -> dict[str, Any]:
    """Return the resources that processes use and that are not the container's."""
    bundle = subject.bundle
    plan = plan_container(bundle, plan_namespaces(bundle.config.get("linux", {})), None)
    if any(planned.kind is MountKind.INSIDE for planned in plan.mounts):
        raise UnsupportedError("cannot checkpoint a bind mount of what an earlier mount made")
    mounts = external_mounts(subject.pid, plan, subject.root)
    return {
        "ext_mnt": [{"key": place, "val": name} for place, name in mounts],
        "external": [*_joined(bundle), *external.values()],
    }


def _externals(pid: int, *, terminals: bool) -> dict[int, str]:
    """Return the standard streams that are files of the host, by CRIU's names."""
    inside = {mounted.number for mounted in mounts_of(pid)}
    found = {}
    for number in range(3):
        try:
            status_ = os.stat(f"/proc/{pid}/fd/{number}")
            name = os.readlink(f"/proc/{pid}/fd/{number}")
            with open(f"/proc/{pid}/fdinfo/{number}") as file:
                mount = next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
        except FileNotFoundError:
            continue
        if not name.startswith("/") or mount in inside:
            continue
        if stat.S_ISREG(status_.st_mode) or stat.S_ISFIFO(status_.st_mode):
            found[number] = f"{EXTERNAL_FILE}{mount:x}:{status_.st_ino:x}]"
        elif terminals and _is_terminal(status_.st_rdev):
            found[number] = f"{EXTERNAL_TERMINAL}{status_.st_rdev:x}:{status_.st_dev:x}]"
    return found


def _is_terminal(device: int) -> bool:
    """Whether *device* is a pseudo-terminal. devices.txt, majors 136 to 143."""
    return os.major(device) in range(136, 144)


def _write_descriptors(folders: Folders, known: Sequence[str], external: dict[int, str]) -> None:
    """Record the standard streams, so that a restore can replace them."""
    streams = [external.get(n, known[n] if n < len(known) else "") for n in range(3)]
    data = jsontext.dumps(streams)
    with suppress(FileNotFoundError):
        os.unlink(DESCRIPTORS, dir_fd=folders.images)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(DESCRIPTORS, flags, 0o600, dir_fd=folders.images), "w") as file:
        file.write(data)
