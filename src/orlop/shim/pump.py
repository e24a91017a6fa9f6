"""One process's output to its log and its clients, and their input to the process."""

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from orlop.shim.attachment import FULL, Input
from orlop.shim.compression import Compressions
from orlop.shim.courier import Courier
from orlop.shim.fifos import Client
from orlop.shim.log import Log, Sink
from orlop.shim.logfile import LogFile
from orlop.shim.loop import Loop
from orlop.shim.protocol import IO
from orlop.shim.protocol import Log as LogMessage

BLOCK = 64 << 10  # at most this much of a stream per round: the others' turn comes
_LEFT_OVER = 4 << 20  # what can still be in a pipe after its writers have ended, and more


class Events(NamedTuple):
    """What a pump tells whoever made it."""

    drained: Callable[[], None]
    stdin_closed: Callable[[], None]
    idle: Callable[[], None]  # nobody holds the other end of a pipe any more


class Pump:
    """Copies until the process has ended and its pipes are empty; then tells that.

    *fds* is {"stdin", "stdout", "stderr"} or {"terminal"}, ours from now on; they
    are made non-blocking. A pipe that some grandchild still holds is read on and
    thrown away, for to close it would kill the grandchild at its next write.
    """

    def __init__(
        self,
        loop: Loop,
        events: Events,
        *,
        fds: Mapping[str, int],
        io: IO,
        compressions: Compressions,
        resume: bool,
    ) -> None:
        self.drained = False
        self._loop = loop
        self._io = io
        self._events = events
        self._attachments: list[Client] = []
        self._paused = False
        self._stdin_told = False
        self._courier: Courier | None = None
        self._file: LogFile | None = None
        self._log = self._open_log(compressions, resume=resume)
        self._outputs = _outputs(fds)
        self._input = self._make_input(fds)
        for fd in fds.values():
            os.set_blocking(fd, False)
        self._resume()

    def attach(self, client: Client) -> None:
        """Let *client* see the output from now on."""
        client.multiplex = not self._io["terminal"] if client.framed is None else client.framed
        client.on_room = self._room
        self._attachments.append(client)
        client.begin(on_input=self._typed, on_gone=self._gone, use_keys=self._io["terminal"])

    def end(self, status: str | None = None) -> None:
        """The process has ended: take what is left and finish. Clients get theirs in their time.

        *status* is its exit code and usage, for the clients that want to be told.
        """
        if self.drained:
            return
        self.drained = True
        for stream, fd in list(self._outputs.items()):
            self._take_left_over(stream, fd)
        if self._log is not None:
            self._log.close()
        if self._input is not None:
            self._input.close()
        if self._io["terminal"]:
            self.close()
        for client in list(self._attachments):
            client.end(status)
        for stream, fd in self._outputs.items():
            self._loop.watch(fd, functools.partial(self._discard, stream))
        self._events.drained()
        if not self._outputs:
            self._events.idle()

    def close_stdin(self) -> None:
        """End the process's input once it has taken what was typed."""
        if self._input is not None and not self._io["terminal"]:
            self._input.finish()
            self._tell_stdin()

    def reopen_log(self) -> None:
        """Go on with the log in a new file, because somebody has moved it away."""
        if self._file is not None and not self.drained:
            self._file.reopen()

    def close(self) -> None:
        """Close the output descriptors, whoever still writes."""
        for stream in list(self._outputs):
            self._close_output(stream)

    def _open_log(self, compressions: Compressions, *, resume: bool) -> Log | None:
        log = self._io.get("log")
        if not log:
            return None
        sinks: list[Sink] = []
        if log.get("kept", True):
            self._file = _open_file(log, compressions)
            sinks.append(self._file)
        if delivery := log.get("delivery"):
            self._courier = Courier(self._loop, delivery)
            self._courier.on_room = self._room
            sinks.append(self._courier)
        unfinished = log.get("unfinished") or f"{log['path']}.unfinished"
        return Log(unfinished, sinks, resume=resume)

    def _make_input(self, fds: Mapping[str, int]) -> Input | None:
        if "terminal" in fds:  # a second descriptor, for the loop watches each for one thing
            return Input(self._loop, os.dup(fds["terminal"]), on_room=self._taken)
        if "stdin" in fds:
            return Input(self._loop, fds["stdin"], on_room=self._taken)
        return None

    def _resume(self) -> None:
        for stream, fd in self._outputs.items():
            self._loop.watch(fd, functools.partial(self._read, stream))

    def _read(self, stream: str, _events: int) -> None:
        data = self._take(stream)
        if data:
            self._distribute(stream, data)

    def _take(self, stream: str) -> bytes:
        """Read a block; b"" for nothing now, and the stream is gone at its end."""
        try:
            data = os.read(self._outputs[stream], BLOCK)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        if not data:
            self._close_output(stream)
        return data

    def _distribute(self, stream: str, data: bytes) -> None:
        if self._log is not None:
            self._log.write(stream, data)
        for client in list(self._attachments):
            client.send(stream, data)
        if not self.drained and self._held_up():
            self._pause()

    def _held_up(self) -> bool:
        """Whether somebody who is sent the output has so much of it unread that it has to wait."""
        courier = self._courier
        if courier is not None and courier.waits and courier.size > FULL:
            return True
        return any(client.size > FULL for client in self._attachments)

    def _pause(self) -> None:
        self._paused = True
        for fd in self._outputs.values():
            self._loop.forget(fd)

    def _room(self) -> None:
        if not self._paused or self.drained:
            return
        if not self._held_up():
            self._paused = False
            self._resume()

    def _take_left_over(self, stream: str, fd: int) -> None:
        self._loop.forget(fd)
        taken = 0
        while taken < _LEFT_OVER and (data := self._take(stream)):
            taken += len(data)
            self._distribute(stream, data)

    def _discard(self, stream: str, _events: int) -> None:
        self._take(stream)
        if not self._outputs:
            self._events.idle()

    def _close_output(self, stream: str) -> None:
        fd = self._outputs.pop(stream, None)
        if fd is not None:
            self._loop.forget(fd)
            os.close(fd)

    def _typed(self, client: Client, data: bytes) -> None:
        if self._input is None or self._input.closed:
            return
        if data:
            self._input.write(data)
            if self._input.full:
                self._hold_input(pause=True)
        elif self._io["stdin_once"]:
            self.close_stdin()

    def _taken(self) -> None:
        if self._input is None or self._input.closed:
            self._tell_stdin()
        self._hold_input(pause=False)

    def _hold_input(self, *, pause: bool) -> None:
        for client in self._attachments:
            if client.wants_input:
                client.pause_input(pause=pause)

    def _tell_stdin(self) -> None:
        """The shim holds a copy of the descriptor: until it is closed, no end of input is seen."""
        if not self._stdin_told:
            self._stdin_told = True
            self._events.stdin_closed()

    def _gone(self, client: Client) -> None:
        with contextlib.suppress(ValueError):
            self._attachments.remove(client)
        if client.wants_input and self._io["stdin_once"] and not self.drained:
            self.close_stdin()
        self._room()


def _open_file(log: LogMessage, compressions: Compressions) -> LogFile:
    return LogFile(
        log["path"],
        max_size=log["max_size"],
        max_files=log["max_files"],
        attributes=log.get("attributes"),
        on_rotated=compressions.compress if log.get("compress") else None,
        is_cri=log.get("is_cri", False),
    )


def _outputs(fds: Mapping[str, int]) -> dict[str, int]:
    """Return the descriptors to read, by the stream they are; a terminal is stdout."""
    if "terminal" in fds:
        return {"stdout": fds["terminal"]}
    return {stream: fds[stream] for stream in ("stdout", "stderr") if stream in fds}
