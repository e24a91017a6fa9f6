"""Write images of a running container, which then ends or keeps running."""

from __future__ import annotations

import os

from orlop.criu import conversation as criu
from orlop.criu.dump import Subject, dump, freezer
from orlop.criu.options import Options, open_folders, requested, require_root
from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.lifecycle import delete
from orlop.lifecycle.execute import load_config
from orlop.lifecycle.folder import Folder, Lock
from orlop.lifecycle.record import PAUSED, RUNNING, status
from orlop.model.light import TYPE_CHECKING, NamedTuple
from orlop.model.light_context import ExitStack
from orlop.runtime.bundle import Bundle

if TYPE_CHECKING:
    from typing import Any

    from orlop.lifecycle.statefile import Record
    from orlop.model.oci import Config


class Request(NamedTuple):
    """The command line's options for a checkpoint."""

    options: Options = Options()
    parent_path: str = ""  # earlier images, relative to these
    leave_running: bool = False
    pre_dump: bool = False  # only the memory; the container keeps running
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    page_server: str = ""  # ADDRESS:PORT
    status_fd: int = -1  # gets a zero byte when pages can be requested


def checkpoint(folder: Folder, request: Request) -> None:
    """Write images of the container, and end it unless it has to keep running.

    If this raises, it runs as before.
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
        wanted = _wanted(request, config)
        subject = _subject(folder, record, config)
        folders = open_folders(request.options, "dump.log", ours, make=True)
        kind = criu.SINGLE_PRE_DUMP if request.pre_dump else criu.DUMP
        dump(kind, subject, wanted, folders, _Events(request.status_fd).happened)
        if not (request.leave_running or request.pre_dump):
            delete.end(record)
            delete.destroy(folder, record)


class _Events:
    """Our reactions to CRIU's notifications."""

    def __init__(self, status_fd: int) -> None:
        self._status_fd = status_fd

    def happened(self, event: str, pid: int, fds: object) -> None:
        del pid, fds
        if event == "status-ready" and self._status_fd >= 0:
            os.write(self._status_fd, b"\0")
            os.close(self._status_fd)
            self._status_fd = -1


def _subject(folder: Folder, record: Record, config: Config) -> Subject:
    return Subject(
        record["init_process_pid"],
        Bundle(folder.name, record["orlop"]["bundle"], config),
        record["config"]["rootfs"],
        freezer(record["cgroup_paths"]),
        record["external_descriptors"],
    )


def _wanted(request: Request, config: Config) -> dict[str, Any]:
    """Return CRIU's options for those of the command line."""
    wanted = requested(request.options, config.get("annotations", {}))
    wanted |= {
        "leave_running": request.leave_running,
        "tcp_skip_in_flight": request.tcp_skip_in_flight,
        "link_remap": request.link_remap,
        "ps": _page_server(request.page_server),
    }
    if request.pre_dump or request.parent_path:
        criu.require(mem_track=True)
        wanted |= {"track_mem": True, "parent_img": request.parent_path or None}
    if request.options.lazy_pages:
        criu.require(lazy_pages=True)
        _check_status_fd(request.status_fd)
    return wanted


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
