"""Telling a service manager that a container is ready: NOTIFY_SOCKET, one for the container.

The container gets a socket of its own, in a folder that is mounted at /run/notify.
What it says there of being ready, and no more, is passed on with the pid that the
manager can know. sd_notify(3).
"""

from __future__ import annotations

import _socket
import os
import select

from orlop.kernel import rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.folder import Folder
    from orlop.model.oci import Config

_INSIDE = "/run/notify"
_NAME = "notify.sock"
_MOST_BYTES = 4096
_BARRIER_TIMEOUT_MS = 30_000


def prepare(folder: Folder, config: Config) -> None:
    """Give the container to be the folder of its socket."""
    os.mkdir(folder.file("notify"), 0o755)
    os.chmod(folder.file("notify"), 0o755)
    config.setdefault("mounts", []).append(
        {
            "destination": _INSIDE,
            "type": "bind",
            "source": folder.file("notify"),
            "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
        }
    )
    process = config.setdefault("process", {})
    process["env"] = [*process.get("env", ()), f"NOTIFY_SOCKET={_INSIDE}/{_NAME}"]


def listen(folder: Folder) -> Notifier | None:
    """Make the container's socket; None where nobody wants to be notified."""
    manager = os.environ.get("NOTIFY_SOCKET")
    if not manager or not os.path.isdir(folder.file("notify")):
        return None
    return Notifier(manager, folder.file("notify"))


class Notifier:
    """The container's socket, in *folder*.

    The manager's is at *manager*; "@" begins an abstract name.
    """

    def __init__(self, manager: str, folder: str) -> None:
        self._manager = "\0" + manager[1:] if manager.startswith("@") else manager
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{place}/{_NAME}"  # for a socket's path is short: unix(7)
            self._socket.bind(path)
            os.chmod(path, 0o777)
        finally:
            os.close(place)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def wait(self, pid: int) -> None:
        """Pass on what process *pid* says of being ready; return then, or when it has ended."""
        pidfd = os.pidfd_open(pid)
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        try:
            while True:
                ready = [fd for fd, _ in poller.poll()]
                if self.fileno() in ready and self.pass_on(pid):
                    return
                if ready == [pidfd]:
                    return
        finally:
            os.close(pidfd)

    def pass_on(self, pid: int) -> bool:
        """Read one message; if it says ready, tell the manager, with *pid*, and return True."""
        lines = self._socket.recv(_MOST_BYTES).split(b"\n")
        ready = next((line for line in lines if line.startswith(b"READY=")), None)
        if ready is None:
            return False
        manager = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        try:
            manager.connect(self._manager)
            manager.send(ready + b"\n")
            manager.send(b"MAINPID=%d\n" % pid)
            _await_barrier(manager)
        finally:
            manager.close()
        return True


def _await_barrier(manager: _socket.socket) -> None:
    """Wait until the manager has read all so far; it knows us only as long as we are there."""
    reader, writer = os.pipe()
    try:
        rights.send_descriptor(manager, writer, b"BARRIER=1")
        os.close(writer)
        poller = select.poll()
        poller.register(reader, 0)
        poller.poll(_BARRIER_TIMEOUT_MS)
    finally:
        os.close(reader)
