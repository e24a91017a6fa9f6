"""The shim's program. launch.py runs it, with `-I -S`, from a sealed copy of the interpreter."""

import contextlib
import fcntl
import gc
import os
import resource
import sys
import traceback
from collections.abc import Callable

from orlop.kernel.process import set_child_subreaper, set_dumpable, set_name
from orlop.shim.channel import listen
from orlop.shim.loop import Loop
from orlop.shim.pumps import Pumps
from orlop.shim.server import Server

ALREADY_RUNNING = 3  # exit status


def main(run: str, lock: str = "") -> None:
    """Serve *run*/shim.sock. The first process exits once the socket listens: 0 if it does.

    With *lock*, the number of its descriptor, this process is a shim already: ending.py.
    """
    try:
        if lock:
            held = int(lock)
            os.closerange(3, held)
            os.closerange(held + 1, 1 << 20)
            _serve(run, held, lambda _status: None)
        else:
            os.closerange(3, 1 << 20)
            _begin(run)
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def _begin(run: str) -> None:
    """Serve in a child, and exit with what it tells."""
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        answer = os.read(ready, 1)
        os._exit(answer[0] if answer else 1)
    os.close(ready)

    def say(status: int) -> None:
        os.write(tell, bytes([status]))
        os.close(tell)

    lock = _lock(run)
    if lock < 0:
        say(ALREADY_RUNNING)
    else:
        _serve(run, lock, say)


def _serve(run: str, lock: int, say: Callable[[int], None]) -> None:
    """Serve to the end, and *say* 0 once the socket listens; never returns."""
    os.set_inheritable(lock, False)  # noqa: FBT003 (it takes no keyword)
    _settle_down()
    loop = Loop()
    listener = listen(os.path.join(run, "shim.sock"))
    server = Server(loop, run=run, listener=listener, pumps=Pumps(loop, run=run))
    gc.collect()
    gc.freeze()  # what is there now stays, and children need not look at it
    say(0)
    loop.run()
    if server.ending.successor is not None:
        server.ending.successor.begin(lock)
    os._exit(0)


def _lock(run: str) -> int:
    """Be the only shim of this folder, until we die; return the lock's descriptor, -1 for none.

    A lock of the process, not of the open file (flock), which a container's init
    would hold on to between its clone and its execve after we were killed.
    """
    fd = os.open(os.path.join(run, "shim.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return -1
    return fd


def _settle_down() -> None:
    """Detach from whoever started us, and take no blame and no orphan's leave."""
    os.chdir("/")
    os.umask(0o022)
    set_name("orlop-shim")
    set_dumpable(dumpable=False)
    set_child_subreaper()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-999")  # refused without CAP_SYS_RESOURCE
