"""Steps: the standard streams and the terminal."""

import _socket
import os
import stat

from orlop.kernel import rights, terminal
from orlop.kernel.mount import clone_mount, move_mount
from orlop.kernel.paths import FileSystem, file_system_type, make_file, open_in_root
from orlop.runtime.bundle import Stdio
from orlop.runtime.child import Child
from orlop.runtime.failure import StepError

_OPEN = os.O_RDWR | os.O_NOCTTY
_NULL = os.makedev(1, 3)


def make_terminal(child: Child) -> None:
    """Make a terminal in the container's devpts; the master goes to the parent."""
    master = open_in_root(child.root, "/dev/pts/ptmx", _OPEN)
    if file_system_type(master) != FileSystem.DEVPTS:
        raise StepError("/dev/pts in the container is not a devpts")
    terminal.unlock(master)
    peer = terminal.open_peer(master)
    if child.process.console_size:
        height, width = child.process.console_size
        terminal.set_size(master, height=height, width=width)
    parent = _socket.socket(fileno=child.console)
    rights.send_descriptor(parent, master, b"console")
    parent.close()
    child.console = -1
    os.close(master)
    child.stdio = Stdio(peer, peer, peer)


def hide_stdio(child: Child) -> None:
    """Replace our own files at 0, 1 and 2, because others may look at them."""
    own = (child.console,) * 3 if child.console >= 0 else ()
    for number, fd in enumerate(child.stdio or own):
        os.dup2(fd, number)


def mount_console(child: Child) -> None:
    """Mount the terminal on /dev/console, by descriptor: a name in /dev/pts can be swapped."""
    assert child.stdio
    target = make_file(child.root, "/dev/console")
    copy = clone_mount(child.stdio.stdin)
    move_mount(copy, target)
    os.close(copy)
    os.close(target)


def attach_stdio(child: Child) -> None:
    """Lead a session, with the streams as 0, 1 and 2 and the terminal, if any, as its own."""
    os.setsid()
    if child.stdio is None:
        raise StepError("no standard streams")
    # Above 2 first, so that none is closed before it has been copied.
    streams = [os.dup(fd) if fd < 3 else fd for fd in child.stdio]
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        if stat.S_ISCHR(os.fstat(number).st_mode):
            _reopen_null(number)
    if child.process.terminal:
        terminal.make_controlling(0)


def _reopen_null(number: int) -> None:
    """Have the container's null device in place of the host's, whose mode could be changed by it.

    And only what is the container's own can be checkpointed.
    """
    if os.fstat(number).st_rdev != _NULL:
        return
    try:
        fd = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:  # a root without one
        return
    if os.fstat(fd).st_rdev == _NULL:
        os.dup2(fd, number)
    os.close(fd)
