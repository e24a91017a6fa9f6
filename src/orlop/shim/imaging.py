"""What helpers do with CRIU: dumps.py and restores.py say when, and what becomes of it."""

import os
import socket
import time
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
#: What CRIU says when processes of the same user have so many descriptors on their way to
#: others that the kernel refuses to take one more: it passes. unix(7), ETOOMANYREFS.
_CROWDED = "Can't retrieve FD from socket"
_AGAIN_S, _PAUSE_S = 5.0, 0.2
#: What to do where CRIU says too little, by the begin of what it says.
_HINTS = {
    _CROWDED: "too many descriptors are on their way between processes: try again",
    "Can't get rlimit": "run the command as root, or the engine with CAP_SYS_RESOURCE",
    "sockets: ": "close TCP and UDP sockets: criu 4.1 cannot copy those of Linux 6.16 and later",
}
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
        dumping.frozen(process.cgroup.directories),  # else one by one: a kill leaves none frozen
        [f"pipe:[{inodes[name]}]" if name in inodes else "" for name in _STREAMS],
    )
    folders = Folders(images, None, Log(images, "", "dump.log"))
    wanted = {**requested(_OPTIONS, {}), "leave_running": True, "link_remap": True}

    over = time.monotonic() + _AGAIN_S

    def happened(event: str, _pid: int, _fds: object) -> None:
        if event == "post-dump":
            ask(sock, {"dumped": True})

    while True:
        try:
            return dumping.dump(
                conversation.DUMP, subject, wanted, folders, happened, patience_s=_PATIENCE_S
            )
        except FailedError as error:
            if error.reason != _CROWDED or time.monotonic() > over:
                raise _uncopied(record["id"], error.reason) from None
        _empty(images)
        time.sleep(_PAUSE_S)


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
    hints = (hint for begin, hint in _HINTS.items() if reason.startswith(begin))
    return UnsupportedError(
        f"the processes of container {container_id[:12]} cannot be copied: criu: {reason}",
        hint=next(hints, "end what has that, and try again"),
    )
