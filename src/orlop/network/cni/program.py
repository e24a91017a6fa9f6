"""Run one plugin: input by environment and stdin, output by stdout and exit status.

A plugin is a separate program. It gets its own process group, which is killed after a
timeout; its output is read up to a limit; and we do not wait for processes that it leaves
running, even if they hold its output open.
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
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_SIGKILL = 9
_SIGPIPE = 13
_SIGXFSZ = 25
_MOST_OUTPUT = 1 << 20
_CHUNK = 1 << 16
_CHUNKS_AT_ONCE = 16  # then the time is checked
_MOST_LOG = 16 << 10
_MOST_IN_A_MESSAGE = 1000
_TRIES_WHILE_WRITTEN = 5
_PAUSE_WHILE_WRITTEN_S = 0.1


class Done(NamedTuple):
    """How a program ended: status as from waitstatus_to_exitcode(), and its output."""

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
    """Run a program to its end, or kill it; *began* gets its pid, which is also its group's.

    The program gets its configuration only after that, so it does nothing that is not
    recorded: if we are killed before, it reads an empty one.
    """
    pipes = (os.pipe(), os.pipe(), os.pipe())
    theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
    ours = (pipes[0][1], pipes[1][0], pipes[2][0])
    try:
        pid = _spawn(path, environment, theirs)
    except BaseException:
        _close(ours)
        raise
    finally:
        _close(theirs)
    talk = _Talk(_name(path), configuration, *ours)
    try:
        if began is not None:
            began(pid)
        talk.until_end(pid, timeout_s)
    except BaseException:
        os.killpg(pid, _SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        talk.close()
    return Done(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), talk.out, talk.log)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _spawn(path: str, environment: Mapping[str, str], ends: tuple[int, int, int]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(ends)]
    try:
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
                if error.errno != errno.ETXTBSY:  # it is being installed right now
                    raise
            time.sleep(_PAUSE_WHILE_WRITTEN_S)
        raise UnavailableError(f"CNI plugin {_name(path)} is being written")
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise OrlopError(f"CNI plugin {path} cannot be run: {reason}") from error


def _name(path: str) -> str:
    return path.rpartition("/")[2]


class _Talk:
    """Our ends of a plugin's pipes: write its input and read its output until it ends."""

    def __init__(self, name: str, configuration: bytes, feed: int, out: int, log: int) -> None:
        self._name = name
        self._untold = memoryview(configuration)
        self._open = {feed: select.POLLOUT, out: select.POLLIN, log: select.POLLIN}
        self._feed, self._out_end = feed, out
        self.out = b""
        self.log = b""
        for fd in self._open:
            os.set_blocking(fd, False)

    def close(self) -> None:
        """Close what is still open."""
        while self._open:
            self._finish(next(iter(self._open)))

    def _finish(self, fd: int) -> None:
        del self._open[fd]
        os.close(fd)

    def until_end(self, pid: int, timeout_s: float) -> None:
        """Serve the pipes until *pid* has ended; UnavailableError after the timeout."""
        deadline = time.monotonic() + timeout_s
        pidfd = os.pidfd_open(pid)
        try:
            while pidfd not in (ready := self._ready(pidfd, deadline)):
                if not ready:
                    raise UnavailableError(
                        f"CNI plugin {self._name} did not end within {timeout_s:g} s,"
                        " and was killed"
                    )
                for fd in ready:
                    self._work(fd)
        finally:
            os.close(pidfd)
        for fd in tuple(self._open):  # the rest of its output
            self._work(fd)

    def _ready(self, pidfd: int, deadline: float) -> list[int]:
        poller = select.poll()
        for fd, events in (*self._open.items(), (pidfd, select.POLLIN)):
            poller.register(fd, events)
        left_s = deadline - time.monotonic()
        return [fd for fd, _ in poller.poll(left_s * 1000)] if left_s > 0 else []

    def _work(self, fd: int) -> None:
        """Write or read what is possible now; close an end that is done."""
        try:
            done = self._tell() if fd == self._feed else self._hear(fd)
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not read further
            done = True
        if done:
            self._finish(fd)

    def _tell(self) -> bool:
        self._untold = self._untold[os.write(self._feed, self._untold) :]
        return not self._untold

    def _hear(self, fd: int) -> bool:
        for _ in range(_CHUNKS_AT_ONCE):
            part = os.read(fd, _CHUNK)
            if not part:
                return True
            if fd != self._out_end:
                self.log = (self.log + part)[-_MOST_LOG:]
                continue
            self.out += part
            if len(self.out) > _MOST_OUTPUT:
                raise CorruptError(
                    f"CNI plugin {self._name} printed more than {_MOST_OUTPUT >> 20} MiB"
                )
        return False


class Plugins(NamedTuple):
    """Plugins by name: the folders with them, in order, and a timeout for each run."""

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
        """Run a plugin for a command, and return its output; its error is raised as ours."""
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
    """Return the JSON object in a plugin's output; CorruptError if it is anything else."""
    if not out.strip():
        raise CorruptError(f"CNI plugin {plugin} printed nothing at {command}")
    try:
        document = jsontext.loads(out)
    except CorruptError as error:
        raise CorruptError(f"CNI plugin {plugin} printed no JSON at {command}: {error}") from error
    if not isinstance(document, dict):
        raise CorruptError(f"CNI plugin {plugin} printed no JSON object at {command}")
    return document
