"""Starting the shim: detached, and from a copy of the interpreter that nobody can write.

A container's init is a copy of the shim until its execve, and its /proc/self/exe
is the interpreter. Were that the host's file, a container could open it through a
program of its own that names it as interpreter, and write to it (CVE-2019-5736).
A sealed memfd has no writers, ever.
"""

import contextlib
import fcntl
import os
import select
import sys
import time

import orlop
from orlop.errors import OrlopError, UnavailableError
from orlop.shim.build import BUILD
from orlop.shim.client import Client

_READY_S = 15.0
_FIRST_PAUSE_S = 0.02
_ALREADY_RUNNING = 3
_MFD_EXEC = 0x0010
_F_ADD_SEALS = 1033
_F_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008  # SEAL, SHRINK, GROW, WRITE
_DEFAULT_SIGNALS = (1, 2, 3, 13, 15, 17)  # HUP INT QUIT PIPE TERM CHLD
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from orlop.shim.main import main; main(*sys.argv[2:])"
)


def launch(run: str) -> None:
    """Start the shim of *run* and return once it takes connections; one that runs is no error.

    It survives us, and everything in *run*/shim.log is what it had to complain
    about. UnavailableError says that it did not come up.
    """
    deadline, pause_s, renew = time.monotonic() + _READY_S, _FIRST_PAUSE_S, True
    while not _answers(run, renew=renew):
        renew = False
        os.makedirs(run, mode=0o700, exist_ok=True)
        log = os.path.join(run, "shim.log")
        status = _wait(_spawn(run, log))
        if status == 0:
            return
        if status != _ALREADY_RUNNING:
            raise UnavailableError(f"the shim did not start: {_last_line(log)}", hint=f"see {log}")
        if time.monotonic() > deadline:
            raise UnavailableError("another shim holds the lock and does not answer")
        time.sleep(pause_s)  # one that is being killed holds the lock until it is gone
        pause_s *= 2


def _spawn(run: str, log: str) -> int:
    """Start the shim's first process and return its pid."""
    words, environment = _program(run)
    memfd = sealed_copy(words[0])
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.posix_spawn(
            f"/proc/self/fd/{memfd}",
            words,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, log, append, 0o600),
            ],
            setsid=True,
            setsigdef=_DEFAULT_SIGNALS,
            setsigmask=(),
        )
    finally:
        os.close(memfd)


def _program(run: str) -> tuple[list[str], dict[str, str]]:
    """Return the shim's command line, the interpreter first, and its environment."""
    interpreter = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    words = [interpreter, "-I", "-S", "-c", _PROGRAM, _package_parent(), run]
    return words, _environment(interpreter) | {"ORLOP_RUN": run}  # where filters are cached


def _answers(run: str, *, renew: bool) -> bool:
    """Whether a shim is there and answers; it saves the start of an interpreter to ask.

    To have connected proves nothing: a shim that is being killed still has its socket. With
    *renew* one of another build, which an upgrade has left, does not count if it gives way.
    """
    try:
        client = Client(os.path.join(run, "shim.sock"))
    except OrlopError:
        return False
    try:
        build = client.call({"op": "hello"})["ok"].get("build")
        return build == BUILD or not (renew and _gives_way(client, run))
    except (OrlopError, TimeoutError):
        return False
    finally:
        client.close()


def _gives_way(client: Client, run: str) -> bool:
    """Whether a shim ends, as it holds nothing, or goes on as one of our build."""
    if "ok" in client.call({"op": "shutdown"}):
        return True
    words, environment = _program(run)
    interpreter = sealed_copy(words[0])
    try:
        message = {"op": "renew", "words": words, "environment": environment}
        return "ok" in client.call(message, [interpreter])
    finally:
        os.close(interpreter)


def sealed_copy(path: str) -> int:
    """Return a descriptor of a copy of the program at *path* that can be run, never written."""
    fd = _memfd("orlop-shim")
    try:
        with open(path, "rb") as source:
            remaining = os.fstat(source.fileno()).st_size
            while remaining > 0:
                remaining -= os.sendfile(fd, source.fileno(), None, remaining) or remaining
        fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _memfd(name: str) -> int:
    flags = os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC
    try:
        return os.memfd_create(name, flags | _MFD_EXEC)
    except OSError:  # before Linux 6.3 it needs no asking
        return os.memfd_create(name, flags)


def _package_parent() -> str:
    """Return the folder that `import orlop` needs on its path, however it is installed."""
    return os.path.dirname(os.path.dirname(os.path.abspath(orlop.__file__)))


def _environment(interpreter: str) -> dict[str, str]:
    """Return a bare one. A libpython found by $ORIGIN is not found from a memfd."""
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    library = os.path.join(os.path.dirname(os.path.dirname(interpreter)), "lib")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if os.path.exists(os.path.join(library, f"libpython{version}.so.1.0")):
        environment["LD_LIBRARY_PATH"] = library
    return environment


def _wait(pid: int) -> int:
    """Wait for the first process to say whether the shim is ready, and reap it."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_READY_S * 1000):
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise UnavailableError(f"the shim was not ready after {_READY_S:g} s")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError as error:
        raise OrlopError("the shim's first process was reaped by somebody else") from error
    finally:
        os.close(pidfd)


def _last_line(path: str) -> str:
    with contextlib.suppress(OSError, IndexError), open(path, errors="replace") as file:
        return file.read().splitlines()[-1]
    return "it said nothing"
