"""Running one plugin: it is told by environment and stdin, and tells by stdout and its status.

A plugin is a program of others. It gets a process group of its own, which is killed when
its time is over; what it says is read up to a limit; and nobody waits for what it left
running, though that may hold its output open.
"""

from __future__ import annotations

import errno
import os
import select
import time

from orlop.errors import CorruptError, NotFoundError, OrlopError, UnavailableError
from orlop.model import jsontext
from orlop.model.light import NamedTuple
from orlop.network.cni import failure, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_SIGKILL = 9
_SIGPIPE = 13
_SIGXFSZ = 25
_MOST_OUTPUT = 1 << 20
_MOST_LOG = 16 << 10
_MOST_IN_A_MESSAGE = 1000
_TRIES_WHILE_WRITTEN = 5
_PAUSE_WHILE_WRITTEN_S = 0.1


class Done(NamedTuple):
    """How a program ended: a status as waitstatus_to_exitcode() has it, and what it said."""

    status: int
    out: bytes
    log: bytes


def run(
    path: str,
    environment: Mapping[str, str],
    configuration: bytes,
    *,
    timeout_s: float,
    began: Callable[[int], None] | None = None,
) -> Done:
    """Run a program to its end, or kill it; *began* is told its pid, which is its group's too."""
    out, log = os.pipe(), os.pipe()
    try:
        pid = _spawn(path, environment, configuration, out[1], log[1])
    except BaseException:
        os.close(out[0])
        os.close(log[0])
        raise
    finally:
        os.close(out[1])
        os.close(log[1])
    try:
        if began is not None:
            began(pid)
        said = _listen(path, pid, out[0], log[0], timeout_s)
    except BaseException:
        os.killpg(pid, _SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(out[0])
        os.close(log[0])
    return Done(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *said)


def _spawn(
    path: str, environment: Mapping[str, str], configuration: bytes, out: int, log: int
) -> int:
    stdin = os.memfd_create("configuration", os.MFD_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate((stdin, out, log))]
    try:
        os.write(stdin, configuration)
        os.lseek(stdin, 0, os.SEEK_SET)
        for _ in range(_TRIES_WHILE_WRITTEN):
            try:
                return os.posix_spawn(
                    path,
                    [path],
                    environment,
                    file_actions=actions,
                    setpgroup=0,
                    setsigmask=(),
                    setsigdef=(_SIGPIPE, _SIGXFSZ),
                )
            except OSError as error:
                if error.errno != errno.ETXTBSY:  # somebody installs it at this moment
                    raise
            time.sleep(_PAUSE_WHILE_WRITTEN_S)
        raise UnavailableError(f"CNI plugin {_name(path)} is being written")
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise OrlopError(f"CNI plugin {path} cannot be run: {reason}") from error
    finally:
        os.close(stdin)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _listen(path: str, pid: int, out: int, log: int, timeout_s: float) -> tuple[bytes, bytes]:
    """Return what was said on both by the time that *pid* had ended."""
    said = {out: b"", log: b""}
    deadline = time.monotonic() + timeout_s
    unfinished = set(said)
    pidfd = os.pidfd_open(pid)
    poller = select.poll()
    for fd in (out, log, pidfd):
        os.set_blocking(fd, False)
        poller.register(fd, select.POLLIN)
    try:
        while True:
            left_s = deadline - time.monotonic()
            ready = [fd for fd, _ in poller.poll(max(0, left_s) * 1000)] if left_s > 0 else []
            if not ready:
                raise UnavailableError(
                    f"CNI plugin {_name(path)} did not end within {timeout_s:g} s, and was killed"
                )
            for fd in tuple(unfinished):
                if (fd in ready or pidfd in ready) and _read(fd, said):
                    poller.unregister(fd)
                    unfinished.remove(fd)
            said[log] = said[log][-_MOST_LOG:]
            if len(said[out]) > _MOST_OUTPUT:
                raise CorruptError(
                    f"CNI plugin {_name(path)} printed more than {_MOST_OUTPUT >> 20} MiB"
                )
            if pidfd in ready:
                return said[out], said[log]
    finally:
        os.close(pidfd)


def _read(fd: int, said: dict[int, bytes]) -> bool:
    """Read what is there; true at the end of the file, where that is to be watched no more."""
    most = len(said[fd]) + _MOST_OUTPUT
    while len(said[fd]) <= most:
        try:
            part = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        if not part:
            return True
        said[fd] += part
    return False


class Plugins(NamedTuple):
    """Plugins by name: the folders that have them, in order, and how long each may take."""

    folders: tuple[str, ...]
    timeout_s: float

    def find(self, plugin: str) -> str:
        """Return the path of a *plugin*; NotFoundError if no folder has it."""
        names.check_type(plugin, "the type of a plugin")
        for folder in self.folders:
            path = f"{folder}/{plugin}"
            try:
                kind = os.stat(path).st_mode
            except OSError:
                continue
            if kind & 0o170000 == 0o100000:  # a file, S_IFREG
                return path
        where = ", ".join(self.folders) or "no folder"
        raise NotFoundError(f"there is no CNI plugin {plugin} in {where}")

    def call(
        self,
        plugin: str,
        command: str,
        environment: Mapping[str, str],
        configuration: Mapping[str, Any],
        *,
        began: Callable[[int], None] | None = None,
    ) -> bytes:
        """Run a plugin for a command, and return what it printed; its error is raised as ours."""
        path = self.find(plugin)
        text = jsontext.dumps(dict(configuration)).encode(errors="surrogatepass")
        given = {**environment, "CNI_COMMAND": command, "CNI_PATH": ":".join(self.folders)}
        done = run(path, given, text, timeout_s=self.timeout_s, began=began)
        if done.status:
            raise _refused(plugin, command, done)
        return done.out


def _refused(plugin: str, command: str, done: Done) -> OrlopError:
    try:
        document = jsontext.loads(done.out)
    except CorruptError:
        document = None
    told = failure.told(plugin, document) if isinstance(document, dict) else None
    if told is not None:
        return failure.raised(told, command)
    how = f"signal {-done.status}" if done.status < 0 else f"exit status {done.status}"
    said = (done.log.strip() or done.out.strip()).decode(errors="replace")
    told_text = f": {said[-_MOST_IN_A_MESSAGE:]}" if said else ", and said nothing"
    return OrlopError(f"CNI plugin {plugin} failed at {command} with {how}{told_text}")


def document_of(plugin: str, command: str, out: bytes) -> dict[str, Any]:
    """Return the JSON object that a plugin printed; CorruptError if it is anything else."""
    if not out.strip():
        raise CorruptError(f"CNI plugin {plugin} printed nothing at {command}")
    try:
        document = jsontext.loads(out)
    except CorruptError as error:
        raise CorruptError(f"CNI plugin {plugin} printed no JSON at {command}: {error}") from error
    if not isinstance(document, dict):
        raise CorruptError(f"CNI plugin {plugin} printed no JSON object at {command}")
    return document
