"""From a running container to images of it, and to nothing, or to a container that runs on."""

from __future__ import annotations

import os
import stat

from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.lifecycle import criu, delete
from orlop.lifecycle.criu_mounts import external_mounts
from orlop.lifecycle.criu_options import (
    DESCRIPTORS,
    EXTERNAL_FILE,
    EXTERNAL_NAMESPACES,
    EXTERNAL_TERMINAL,
    Options,
    external_namespace,
    open_folders,
    requested,
    require_root,
)
from orlop.lifecycle.execute import load_config
from orlop.lifecycle.folder import Folder, Lock
from orlop.lifecycle.mountinfo import mounts_of
from orlop.lifecycle.record import PAUSED, RUNNING, status
from orlop.model import jsontext
from orlop.model.light import TYPE_CHECKING, NamedTuple
from orlop.model.light_context import ExitStack, suppress
from orlop.runtime.bundle import Bundle
from orlop.runtime.container import plan_container
from orlop.runtime.plan import plan_namespaces

if TYPE_CHECKING:
    from typing import Any

    from orlop.lifecycle.criu_options import Folders
    from orlop.lifecycle.statefile import Record
    from orlop.model.oci import Config
    from orlop.runtime.plan import Namespaces


class Request(NamedTuple):
    """What the command line says about a checkpoint."""

    options: Options = Options()
    parent_path: str = ""  # images that came before, relative to these
    leave_running: bool = False
    pre_dump: bool = False  # only the memory; the container runs on
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    page_server: str = ""  # ADDRESS:PORT
    status_fd: int = -1  # gets a zero byte when pages can be asked for


def checkpoint(folder: Folder, request: Request) -> None:
    """Write images of the container, which ends with that unless it is to run on.

    Where this raises, it runs as before.
    """
    require_root()
    with ExitStack() as ours:
        ours.enter_context(Lock(folder))
        record = folder.load()
        current = status(folder, record)
        if current not in (RUNNING, PAUSED):
            raise WrongStateError(f"container cannot be checkpointed in {current} state")
        config = load_config(folder)
        _check_parent(request)
        wanted = _wanted(request, record, config)
        folders = open_folders(request.options, "dump.log", ours, make=True)
        if request.pre_dump:
            kind = criu.SINGLE_PRE_DUMP
        else:
            kind = criu.DUMP
            external = _externals(record["init_process_pid"], terminals=request.options.shell_job)
            wanted |= _resources(folder, record, config, external)
            _write_descriptors(folders, record, external)
        talk = ours.enter_context(criu.Conversation(criu.Process()))
        options = {**wanted, "images_dir_fd": folders.images, "work_dir_fd": folders.work}
        criu.run(talk, kind, options, folders.log, _Events(request.status_fd).happened)
        if not (request.leave_running or request.pre_dump):
            delete.end(record)
            delete.destroy(folder, record)


class _Events:
    """What we do when CRIU tells that something has happened."""

    def __init__(self, status_fd: int) -> None:
        self._status_fd = status_fd

    def happened(self, event: str, pid: int, fds: object) -> None:
        del pid, fds
        if event == "status-ready" and self._status_fd >= 0:
            os.write(self._status_fd, b"\0")
            os.close(self._status_fd)
            self._status_fd = -1


def _wanted(request: Request, record: Record, config: Config) -> dict[str, Any]:
    """Return what CRIU is to be told of the command line's and about the processes."""
    wanted = requested(request.options, config.get("annotations", {}))
    wanted |= {
        "pid": record["init_process_pid"],
        "root": record["config"]["rootfs"],
        "leave_running": request.leave_running,
        "tcp_skip_in_flight": request.tcp_skip_in_flight,
        "link_remap": request.link_remap,
        "freeze_cgroup": _freezer(record),
        "ps": _page_server(request.page_server),
        "external": _joined(plan_namespaces(config.get("linux", {}))),
    }
    if request.pre_dump or request.parent_path:
        criu.require(mem_track=True)
        wanted |= {"track_mem": True, "parent_img": request.parent_path or None}
    if request.options.lazy_pages:
        criu.require(lazy_pages=True)
        _check_status_fd(request.status_fd)
    return wanted


def _freezer(record: Record) -> str | None:
    """Return the cgroup by which all processes are stopped at once; else they are one by one."""
    for hierarchy, file in (("", "cgroup.freeze"), ("freezer", "freezer.state")):
        path = record["cgroup_paths"].get(hierarchy)
        if path and os.path.exists(f"{path}/{file}"):
            return path
    return None


def _joined(namespaces: Namespaces) -> list[str]:
    """Name the namespaces that are not the container's to restore."""
    return [
        f"{EXTERNAL_NAMESPACES[kind]}[{os.stat(path).st_ino}]:{external_namespace(kind)}"
        for kind, path in namespaces.join
        if kind in EXTERNAL_NAMESPACES
    ]


def _page_server(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    address, _, port = text.rpartition(":")
    if not address or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise InvalidArgumentError(f"invalid page server {text!r}", hint="ADDRESS:PORT")
    return {"address": address.strip("[]"), "port": int(port)}


def _check_status_fd(fd: int) -> None:
    try:
        if fd >= 0:
            os.write(fd, b"")
    except OSError:
        raise InvalidArgumentError(
            f"invalid --status-fd argument {fd}: not open for writing"
        ) from None


def _check_parent(request: Request) -> None:
    if not request.parent_path:
        return
    if os.path.isabs(request.parent_path):
        raise InvalidArgumentError("--parent-path must be relative")
    if not os.path.isdir(os.path.join(request.options.image_path, request.parent_path)):
        raise InvalidArgumentError(f"invalid --parent-path: no folder {request.parent_path!r}")


def _resources(
    folder: Folder, record: Record, config: Config, external: dict[int, str]
) -> dict[str, Any]:
    """Name all that processes use and that is not the container's."""
    pid = record["init_process_pid"]
    namespaces = plan_namespaces(config.get("linux", {}))
    plan = plan_container(Bundle(folder.name, record["orlop"]["bundle"], config), namespaces, None)
    mounts = external_mounts(pid, plan, record["config"]["rootfs"])
    return {
        "ext_mnt": [{"key": place, "val": name} for place, name in mounts],
        "external": [*_joined(namespaces), *external.values()],
    }


def _externals(pid: int, *, terminals: bool) -> dict[int, str]:
    """Return which standard streams are files of the host's, in CRIU's words."""
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
    """Whether *device* is a pseudo-terminal's. devices.txt, majors 136 to 143."""
    return os.major(device) in range(136, 144)


def _write_descriptors(folders: Folders, record: Record, external: dict[int, str]) -> None:
    """Keep what the standard streams were, so that a restore can put others in their place."""
    known = record["external_descriptors"]
    streams = [external.get(n, known[n] if n < len(known) else "") for n in range(3)]
    data = jsontext.dumps(streams)
    with suppress(FileNotFoundError):
        os.unlink(DESCRIPTORS, dir_fd=folders.images)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(DESCRIPTORS, flags, 0o600, dir_fd=folders.images), "w") as file:
        file.write(data)
