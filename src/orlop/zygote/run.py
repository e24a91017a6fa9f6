"""The run: waits for its code, and runs it as `python3 -c` would."""

from __future__ import annotations

import array
import gc
import io
import linecache
import os
import random
import socket
import sys
import traceback

from orlop.zygote import calls

_MOST_MESSAGE = 4096
_NAME = "<run>"


def wait_and_run(engine: socket.socket, gc_enabled: bool, workdir: str) -> None:  # noqa: FBT001
    """Wait until the engine sends code and streams; never returns.

    The only processes of our user in our pid namespace are our future children and the
    guard, which nobody can trace.
    """
    os.setsid()
    os.chdir(workdir)
    _renew_randomness()
    _, given, *_ = engine.recvmsg(_MOST_MESSAGE, socket.CMSG_SPACE(16))
    if not given:
        os._exit(1)  # the run is not needed any more
    fds = array.array("i", given[0][2])
    for standard, fd in enumerate(fds[:3]):
        os.dup2(fd, standard)
        os.close(fd)
    engine.close()
    with open(fds[3], "rb") as file:
        code = file.read()
    _renew_streams()
    calls.set_dumpable(True)
    if gc_enabled:
        gc.enable()
    os._exit(_ending(_run(code)))


def _renew_randomness() -> None:
    """Reseed random generators, so that runs differ; os.urandom and its users need nothing."""
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def _renew_streams() -> None:
    """Make sys.stdin and the others detect the kind of file that they are now."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, f"__{name}__")
        encoding, errors = (old.encoding, old.errors) if old else ("utf-8", "backslashreplace")
        raw = io.FileIO(fd, "w" if fd else "r", closefd=False)
        binary = io.BufferedWriter(raw) if fd else io.BufferedReader(raw)
        text = io.TextIOWrapper(binary, encoding, errors, line_buffering=name == "stderr")
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def _run(code: bytes) -> int:
    """Run *code* in the namespace that the setup has left; return the exit code."""
    main = sys.modules["__main__"]
    lines = code.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[_NAME] = (len(code), None, lines, _NAME)  # for tracebacks
    try:
        exec(compile(code, _NAME, "exec"), main.__dict__)
    except SystemExit as ending:
        return _exit_code(ending)
    except BaseException as error:
        trace = error.__traceback__
        sys.excepthook(
            type(error), error.with_traceback(trace and trace.tb_next), trace and trace.tb_next
        )
        return 1
    return 0


def _exit_code(ending: SystemExit) -> int:
    if ending.code is None:
        return 0
    if isinstance(ending.code, int):
        return ending.code & 0xFF
    print(ending.code, file=sys.stderr)
    return 1


def _ending(code: int) -> int:
    """Run the exit handlers of the interpreter, without freeing its memory."""
    import atexit

    threading = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        return code or 120
    return code
