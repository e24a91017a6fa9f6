"""The shim's side of the stdio process: starting it, feeding it, and putting one in its place."""

import contextlib
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from orlop.errors import ExhaustedError, UnavailableError
from orlop.kernel.process import pidfd_open, pidfd_send_signal
from orlop.shim import stdio
from orlop.shim.adopt import Held
from orlop.shim.build import BUILD
from orlop.shim.channel import (
    Channel,
    Message,
    close_all,
    connect,
    encode,
    listen,
    receive_datagram,
)
from orlop.shim.loop import Loop
from orlop.shim.process import Process
from orlop.shim.protocol import Exit

_SIGKILL = 9
_ANSWER_S = 5.0
_PAUSE_S = 0.2  # between two deaths in a row
_TWICE = 2  # a descriptor that it pumps, and the copy that it hands back
_OTHERS = 3  # of one process: its pidfd, its log, and the log's unfinished line
_MOST_OF_ONE = 3 * _TWICE + _OTHERS
_HELD = "@"  # before the key of what hold() got: in no process's key


class Pumps:
    """A connection to the stdio process that is always there again."""

    def __init__(self, loop: Loop, *, run: str) -> None:
        self.pid = 0  # of the stdio process, if it is our child
        self._pidfd = -1  # of the stdio process, whoever's child
        self.on_drained: Callable[[str], None] = lambda _key: None
        self.on_stdin_closed: Callable[[str], None] = lambda _key: None
        self._loop = loop
        self._path = os.path.join(run, "stdio.sock")
        self._listener: socket.socket | None = None
        self._channel: Channel | None = None
        self._processes: Mapping[str, Process] = {}
        self.held: Held = {}  # descriptors that are no process's, by key and name
        self._started = 0.0
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_fds = limit - max(limit // 8, 16)  # the rest is for clients that attach
        self._fds: dict[str, int] = {}  # that the stdio process needs, by process
        self._all_fds = 0

    def open(self, processes: Mapping[str, Process]) -> Held:
        """Find the stdio process of a shim before us, or start one; return what it holds.

        *processes* is looked at whenever a new one has to be told of everything. One of another
        build is replaced, unless clients are attached, who would be cut off.
        """
        self._processes = processes
        held = self._reach()
        for name in [name for name in held if name.startswith(_HELD)]:
            self.hold(name.removeprefix(_HELD), held.pop(name))
        return held

    def _reach(self) -> Held:
        try:
            sock = connect(self._path)
            told, held = _ask_for_all(sock)
        except (FileNotFoundError, ConnectionError):
            self._spawn()
            return {}
        try:
            if told.get("build") != BUILD and told.get("clients") == 0:
                _end(sock, told["pid"])
                self._spawn()
                return held
            self._talk(sock, told["pid"])
        except ProcessLookupError:  # it died just now; what it held is here all the same
            sock.close()
            self._spawn()
        return held

    def hold(self, key: str, fds: dict[str, int]) -> None:
        """Hold descriptors, here and there, until let_go(); they replace what *key* had."""
        close_all(list(self.held.get(key, {}).values()))
        self.held[key] = fds
        self._count(_HELD + key, len(fds))
        self._keep_held(key)

    def let_go(self, key: str) -> None:
        """Close what *key* has; no error if it has nothing."""
        close_all(list(self.held.pop(key, {}).values()))
        self.drop(_HELD + key)

    def _keep_held(self, key: str) -> None:
        held = self.held[key]
        self.send({"op": "keep", "key": _HELD + key, "names": list(held)}, list(held.values()))

    def take_room(self, key: str) -> None:
        """Count a process that is going to be started, until drop() or its end.

        ExhaustedError where the stdio process could not have its descriptors: without them
        it would run with nobody to read what it writes.
        """
        self.check_room(_MOST_OF_ONE)
        self._count(key, _MOST_OF_ONE)

    def check_room(self, fds: int) -> None:
        """Raise ExhaustedError if the stdio process cannot have so many more descriptors."""
        if self._all_fds + fds > self._most_fds:
            raise ExhaustedError(
                f"{len(self._fds)} processes leave no open files for another",
                hint="raise the limit of open files (LimitNOFILE, ulimit -n) of the engine",
            )

    def _count(self, key: str, fds: int) -> None:
        self._all_fds += fds - self._fds.pop(key, 0)
        if fds:
            self._fds[key] = fds

    def add(self, process: Process, *, resume: bool = False) -> None:
        """Let it pump for *process*; it gets copies of the descriptors, and the waiting client.

        With *resume* it takes over from one that was killed.
        """
        message = {
            "op": "add",
            "key": process.key,
            "io": process.io,
            "names": [*process.fds, "pidfd"],
            "resume": resume,
        }
        fds = [*process.fds.values(), process.pidfd]
        self._count(process.key, _TWICE * len(process.fds) + _OTHERS)
        if process.client is None:
            self.send(message, fds)
            return
        self.send({**message, "attach": process.client.attach}, [*fds, process.client.fd])
        os.close(process.client.fd)
        process.client = None

    def keep(self, process: Process) -> None:
        """Give it what tells of a container that is being started, until add() or drop().

        Only then may its program run: whatever becomes of us, its end is known.
        """
        starting = process.starting
        if starting is None or starting.witness < 0 or process.is_unborn:
            return
        kept = {"witness": starting.witness, "report": starting.report, "pidfd": process.pidfd}
        if starting.console_socket is not None:
            kept["console"] = starting.console_socket.fileno()
        kept |= process.fds
        self.send({"op": "keep", "key": process.key, "names": [*kept]}, [*kept.values()])

    def drop(self, key: str) -> None:
        """Let it forget what was kept of a start that has failed."""
        self._count(key, 0)
        self.send({"op": "drop", "key": key})

    def ended(self, key: str, exit_: Exit | None) -> None:
        """Let it finish with a process that has ended; None where nobody knows how."""
        words = exit_ and (exit_["status"], *exit_.get("usage", ()))
        self.send({"op": "ended", "key": key, "status": words and " ".join(map(str, words))})

    def settled(self) -> None:
        """Say that it has been told of all that runs."""
        self.send({"op": "settled"})

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Send, unless it has just died: then its successor is told everything anyway."""
        if self._channel is not None:
            self._channel.send(message, fds or ())

    def shut_down(self, *, end: bool) -> None:
        """Let go of the stdio process, and with *end* make it exit unless it holds something."""
        if end and not self.held:
            self.send({"op": "exit"})
        self._channel = None

    def _talk(self, sock: socket.socket, pid: int) -> None:
        self._pidfd = pidfd_open(pid)
        self._channel = Channel(self._loop, sock, on_message=self._told, on_close=self._died)
        self._channel.send({"op": "subscribe"})

    def _told(self, _channel: Channel, message: Message, fds: list[int]) -> None:
        close_all(fds)
        if message.get("event") == "drained":
            self._count(message["key"], 0)
            self.on_drained(message["key"])
        elif message.get("event") == "stdin_closed":
            self.on_stdin_closed(message["key"])

    def _died(self, _channel: Channel) -> None:
        """Make sure that it is dead, not only cut off: two would share a socket."""
        with contextlib.suppress(ProcessLookupError):
            pidfd_send_signal(self._pidfd, _SIGKILL)
        os.close(self._pidfd)
        self._channel, self.pid, self._pidfd = None, 0, -1
        pause = 0.0 if time.monotonic() - self._started > 1 else _PAUSE_S
        self._loop.later(pause, self._replace)

    def _replace(self) -> None:
        self._spawn()
        for key in self.held:
            self._keep_held(key)
        for process in list(self._processes.values()):
            if process.starting is not None:
                self.keep(process)
                continue
            if process.fds:
                self.add(process, resume=True)
            if process.exit is not None:
                self.ended(process.key, process.exit)
        self.settled()

    def _spawn(self) -> None:
        """Fork: the child shares our pages, and keeps nothing but the listening socket."""
        self._started = time.monotonic()
        if self._listener is None:
            self._listener = listen(self._path)
        self.pid = os.fork()
        if self.pid == 0:
            self._become_stdio(self._listener)
        self._talk(connect(self._path), self.pid)

    def _become_stdio(self, listener: socket.socket) -> None:
        try:
            fd = listener.fileno()
            os.closerange(3, fd)
            os.closerange(fd + 1, 1 << 20)
            stdio.serve(listener)
        finally:
            os._exit(1)


def _end(sock: socket.socket, pid: int) -> None:
    """End a stdio process, between two blocks that it pumps. ProcessLookupError: it is gone."""
    pidfd = pidfd_open(pid)
    try:
        with sock:
            sock.send(encode({"op": "exit"}))
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_ANSWER_S * 1000):
            pidfd_send_signal(pidfd, _SIGKILL)
            poll.poll()
    finally:
        os.close(pidfd)


def _ask_for_all(sock: socket.socket) -> tuple[Message, Held]:
    """Ask a stdio process that outlived its shim who it is, and for all its descriptors.

    ConnectionError where there is none: its socket may be held open for a moment
    by a container's init that has not come to its execve. UnavailableError where
    it hangs.
    """
    sock.settimeout(_ANSWER_S)
    told: Message = {}
    held: Held = {}
    with ExitStack() as undo:
        undo.callback(sock.close)
        try:
            sock.send(encode({"op": "hello", "seq": 0}))
            sock.send(encode({"op": "held", "seq": 1}))
            while received := receive_datagram(sock):
                message, fds = received
                if message["seq"] == 0:
                    told = message["ok"]
                elif message.get("more"):
                    part = message["ok"]
                    held[part["key"]] = dict(zip(part["names"], fds, strict=True))
                else:
                    undo.pop_all()
                    return told, held
        except TimeoutError:
            hint = "kill it and try again"
            raise UnavailableError("the stdio process does not answer", hint=hint) from None
        raise ConnectionResetError
