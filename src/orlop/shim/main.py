"""The shim's program. launch.py runs it, with `-I -S`, from a sealed copy of the interpreter."""

import contextlib
import fcntl
import gc
import os
import resource
import sys
import traceback

from orlop.kernel.process import set_child_subreaper, set_dumpable, set_name
from orlop.shim.channel import listen
from orlop.shim.loop import Loop
from orlop.shim.pumps import Pumps
from orlop.shim.server import Server

ALREADY_RUNNING = 3  # exit status


def main(run: str) -> None:
    """Serve *run*/shim.sock. The first process exits once the socket listens: 0 if it does."""
    os.closerange(3, 1 << 20)
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        answer = os.read(ready, 1)
        os._exit(answer[0] if answer else 1)
    os.close(ready)
    try:
        _serve(run, tell)
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def _serve(run: str, tell: int) -> None:
    if not _lock(run):
        os.write(tell, bytes([ALREADY_RUNNING]))
        return
    _settle_down()
    loop = Loop()
    listener = listen(os.path.join(run, "shim.sock"))
    Server(loop, run=run, listener=listener, pumps=Pumps(loop, run=run))
    gc.collect()
    gc.freeze()  # what is there now stays, and children need not look at it
    os.write(tell, b"\0")
    os.close(tell)
    loop.run()
    os._exit(0)


def _lock(run: str) -> bool:
    """Be the only shim of this folder, until we die.

    A lock of the process, not of the open file (flock), which a container's init
    would hold on to between its clone and its execve after we were killed.
    """
    fd = os.open(os.path.join(run, "shim.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


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
