"""What helpers do with CRIU: dumps.py and restores.py say when, and what becomes of it."""

import os
import socket
from contextlib import ExitStack

from orlop.criu import conversation
from orlop.criu import dump as dumping
from orlop.criu.conversation import FailedError, Log
from orlop.criu.options import Folders, Options, requested
from orlop.criu.restore import Origin, Restoring
from orlop.errors import UnsupportedError
from orlop.kernel.namespaces import Namespace, sethostname
from orlop.model.oci import Config
from orlop.runtime.bundle import Bundle, Starting, Stdio
from orlop.runtime.cgroups.interface import Cgroup
from orlop.runtime.parent import joined
from orlop.shim.helper import ask
from orlop.shim.process import Process

_OPTIONS = Options(file_locks=True)  # on copies of files, and so each copy's own
_PATIENCE_S = 60.0
_STREAMS = ("stdin", "stdout", "stderr")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def dump(process: Process, config: Config, images: int, sock: socket.socket) -> None:
    """In the helper: dump, and wait for the shim's word before it is over."""
    assert process.cgroup is not None
    record = process.record
    inodes = record["inodes"]
    subject = dumping.Subject(
        record["pid"],
        Bundle(record["id"], record["bundle"], config),
        os.path.join(record["bundle"], "rootfs"),
        process.cgroup.directories,
        [f"pipe:[{inodes[name]}]" if name in inodes else "" for name in _STREAMS],
    )
    folders = Folders(images, None, Log(images, "", "dump.log"))
    wanted = {**requested(_OPTIONS, {}), "leave_running": True, "link_remap": True}

    tries = 2  # a signal at the wrong moment can make CRIU fail; it has harmed nothing then

    def happened(event: str, _pid: int, _fds: object) -> None:
        nonlocal tries
        if event == "post-dump":
            tries = 0
            ask(sock, {"dumped": True})

    while True:
        tries -= 1
        try:
            return dumping.dump(
                conversation.DUMP, subject, wanted, folders, happened, patience_s=_PATIENCE_S
            )
        except FailedError as error:
            if tries <= 0:
                raise _uncopied(record["id"], error.reason) from None
        _empty(images)


def _empty(folder: int) -> None:
    for name in os.listdir(folder):
        os.unlink(name, dir_fd=folder)


def restore(bundle: Bundle, cgroup: Cgroup, stdio: Stdio, images: int, sock: socket.socket) -> None:
    """In the helper: restore, with the shim's consent in the end."""

    def commit(starting: Starting) -> Starting:
        _name_host(starting.pid, bundle)
        ask(sock, {"pid": starting.pid}, [starting.pidfd])
        return starting

    def open_folders(ours: ExitStack) -> Folders:
        own = os.open(".", _FOLDER, dir_fd=images)  # others read there, too
        ours.callback(os.close, own)
        work = os.open(bundle.path, _FOLDER)
        ours.callback(os.close, work)
        return Folders(own, work, Log(work, bundle.path, "restore.log"))

    wanted = requested(_OPTIONS, {})
    origin = Origin(os.path.join(bundle.path, "rootfs"), open_folders, wanted)
    try:
        Restoring(bundle, cgroup, origin, commit).run(stdio)
    except FailedError as error:
        raise _uncopied(bundle.id, error.reason) from None


def _name_host(pid: int, bundle: Bundle) -> None:
    """Give it a name of its own; images have that of another."""
    hostname = bundle.config.get("hostname", "")
    if not hostname:  # it may be in the host's namespace
        return
    uts = os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with joined([(Namespace.UTS, uts)]):
            sethostname(hostname)
    finally:
        os.close(uts)


def _uncopied(container_id: str, reason: str) -> UnsupportedError:
    """Return what to raise where CRIU could not, for its *reason*."""
    return UnsupportedError(
        f"the processes of container {container_id[:12]} cannot be copied: criu: {reason}",
        hint="end what uses that, and try again",
    )
