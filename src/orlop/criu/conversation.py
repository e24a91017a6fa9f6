"""A conversation with CRIU, which does the checkpointing itself. criu(8), "criu swrk".

    we                                      criu
      | socket pair, fork, exec ------------->| swrk
      | request ----------------------------->|
      |<----------------- notify "pre-dump" … | (with a descriptor: "orphan-pts-master")
      | notify_success ---------------------->|
      |<------------------------- the outcome | exits

Over this protocol, and not as a command line: only so the terminal's master is
handed over, the restored process is our own child, and we may look at it before
it runs.
"""

from __future__ import annotations

import math
import os
import signal
import socket

from orlop.criu.messages import REQUEST, RESPONSE, decode, encode
from orlop.errors import UnsupportedError
from orlop.model.light import Any, Callable, Mapping, NamedTuple, Sequence
from orlop.model.light_context import suppress

#: Kinds of requests. images/rpc.proto, criu_req_type.
DUMP, RESTORE, NOTIFY, FEATURE_CHECK, SINGLE_PRE_DUMP = 1, 2, 6, 9, 13

_SOCKET = 3  # where CRIU finds its end, by its command line

#: The number that the first of Process.extra gets.
FIRST_EXTRA = 4

_MOST_MESSAGE = 64 << 10
_MOST_LOG = 1 << 20
_LOG_LEVEL = 4
_PAUSE_S = 2.0  # longer than CRIU is silent by itself

#: Said by CRIU at every failure, or of no consequence.
_NOISE = (
    "Can't setup RLIMIT_NOFILE",
    "tun: Unable to create tun",
    "Dumping FAILED",
    "Restoring FAILED",
    "Pre-dumping FAILED",
)

#: What CRIU's event means to us; descriptors that come with it are the callee's to close.
OnNotify = Callable[[str, int, Sequence[int]], None]


class Process(NamedTuple):
    """What CRIU is started with."""

    stdio: Sequence[
        int
    ] = ()  # for 0, 1 and 2, which what is restored inherits; else the null device
    extra: Sequence[int] = ()  # descriptors that become 4, 5, …
    prepare: Callable[[int], None] | None = None  # what to do to its pid before it works
    patience_s: float = math.inf  # silent for so long it is killed


class Log(NamedTuple):
    """Where CRIU says what it does: a folder that is open, its path, and the file's name."""

    folder: int
    path: str
    name: str

    def clear(self) -> None:
        """Take away what is there: CRIU would write through a link."""
        for name in (self.name, f"stats-{self.name.partition('.')[0]}"):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.folder)

    def reason(self) -> str:
        """Return the first error that CRIU tells of, without its decorations."""
        try:
            fd = os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
        except OSError:
            return ""
        with open(fd, "rb") as file:
            text = file.read(_MOST_LOG).decode(errors="replace")
        for line in text.splitlines():
            _, mark, rest = line.partition("Error (")
            if mark and not any(noise in rest for noise in _NOISE):
                return rest.partition("): ")[2].strip() or rest
        return ""


class FailedError(UnsupportedError):
    """CRIU could not; *reason* is the first error that it tells of."""

    def __init__(self, reason: str, *, log: str) -> None:
        super().__init__(f"criu failed: {reason}", hint=f"log file: {log}")
        self.reason = reason


def run(
    criu: Conversation, kind: int, options: Mapping[str, Any], log: Log, on_notify: OnNotify
) -> None:
    """Let CRIU do one thing; FailedError with its own words if it could not.

    *on_notify* may raise; CRIU is then told that its event failed, and the error
    goes on to the caller once CRIU has taken back what it did. It is also called,
    with "" for the event, when nothing has happened for a while.
    """
    log.clear()
    request = {
        "type": kind,
        "opts": {**options, "log_level": _LOG_LEVEL, "log_file": log.name, "notify_scripts": True},
    }
    answer = criu.ask(request, on_notify)
    if not answer.get("success"):
        reason = log.reason() or _errno(answer)
        raise FailedError(reason, log=f"{log.path}/{log.name}")


def require(**features: bool) -> None:
    """Raise UnsupportedError unless CRIU and the kernel have the *features*."""
    with Conversation(Process()) as criu:
        answer = criu.ask({"type": FEATURE_CHECK, "features": features}, None)
    have = answer.get("features", {})
    missing = [name for name in features if not have.get(name)]
    if missing:
        raise UnsupportedError(
            f"criu is missing features: {', '.join(missing)}", hint="see: criu check --all"
        )


class Conversation:
    """One CRIU process, from its start to its end."""

    def __init__(self, process: Process) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._patience_s = process.patience_s
        with theirs:
            try:
                self.pid = _spawn(process, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        try:
            if process.prepare:
                process.prepare(self.pid)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, which ends CRIU if it still waits for us, and reap it."""
        self._socket.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def ask(self, request: Mapping[str, Any], on_notify: OnNotify | None) -> dict[str, Any]:
        """Send *request* and return the answer, having answered every event on the way.

        The answer is empty if CRIU ended without one.
        """
        failure: BaseException | None = None
        self._send(request)
        while data := self._receive(on_notify):
            message, fds = data
            answer = decode(RESPONSE, message)
            if answer.get("type") != NOTIFY or "notify" not in answer:
                break
            try:
                _tell(on_notify, answer["notify"], fds)
            except Exception as error:
                failure = failure or error
            self._send({"type": NOTIFY, "notify_success": failure is None})
        else:
            answer = {}
        if failure is not None:
            raise failure
        return answer

    def _has_ended(self) -> bool:
        """Whether it has, though a child of it may still hold the socket."""
        return bool(os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    def _send(self, request: Mapping[str, Any]) -> None:
        with suppress(BrokenPipeError):  # then there is nothing to receive
            self._socket.sendall(encode(REQUEST, request))

    def _receive(self, on_notify: OnNotify | None) -> tuple[bytes, list[int]] | None:
        """Return the next message and its descriptors, or None if there is none."""
        self._socket.settimeout(_PAUSE_S)
        silent_s = 0.0
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._socket, _MOST_MESSAGE, 4)
            except TimeoutError:
                silent_s += _PAUSE_S
                if silent_s > self._patience_s:
                    os.kill(self.pid, signal.SIGKILL)  # what it has stopped goes on then
                if self._has_ended():
                    return None
                if on_notify is not None:
                    on_notify("", 0, ())
                continue
            except ConnectionResetError:
                return None
            return (message, fds) if message else None


def _tell(on_notify: OnNotify | None, notify: Mapping[str, Any], fds: Sequence[int]) -> None:
    for fd in fds:
        os.set_inheritable(fd, False)  # noqa: FBT003 - a positional-only parameter
    if on_notify is not None:
        on_notify(notify.get("script", ""), notify.get("pid", 0), fds)
        return
    for fd in fds:
        os.close(fd)


def _errno(answer: Mapping[str, Any]) -> str:
    number = answer.get("cr_errno", 0)
    if number:
        return os.strerror(number).lower()
    said = answer.get("cr_errmsg", "").strip()
    return said if said and not any(noise in said for noise in _NOISE) else "it does not say why"


def _spawn(process: Process, theirs: int) -> int:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    sources = [*(process.stdio or (null, null, null)), theirs, *process.extra]
    away = max(*sources, len(sources)) + 1  # first out of the way of the numbers they are to get
    actions: list[Any] = [
        (os.POSIX_SPAWN_DUP2, fd, away + place) for place, fd in enumerate(sources)
    ]
    for place in range(len(sources)):
        actions.append((os.POSIX_SPAWN_DUP2, away + place, place))
        actions.append((os.POSIX_SPAWN_CLOSE, away + place))
    arguments = ["criu", "swrk", str(_SOCKET)]
    try:
        return os.posix_spawnp(
            "criu", arguments, os.environ, file_actions=actions, setsigmask=(), setsigdef=()
        )
    except FileNotFoundError:
        raise UnsupportedError(
            "checkpoint and restore need criu", hint="apt-get install criu"
        ) from None
    finally:
        os.close(null)
