"""A command as an exec of the engine's: its streams are frames on one connection."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from orlop.client.address import Settings
from orlop.client.client import Client
from orlop.client.stream import STDERR, Demultiplexer
from orlop.client.timed import TimedClient
from orlop.errors import NotFoundError, WrongStateError
from orlop.model.timeline import OFF, Step, steps_of
from orlop.sandbox.options import variables
from orlop.sandbox.result import StreamName, Usage
from orlop.sandbox.timeline import with_program
from orlop.sandbox.way import Command, End, Size

_KILLED = 137  # of which the engine knows why
_SETTLE_S, _AGAIN_S = 5.0, 0.05  # the output ends before the engine hears of the end


class ExecHandle:
    """See Handle."""

    def __init__(
        self, settings: Settings, container: str, command: Command, *, ends_s: float
    ) -> None:
        """The container's lifetime ends at *ends_s*, as time.monotonic() has it."""
        self._ends_s = ends_s
        self._settings = settings
        self._container = container
        self._frames = None if command.terminal is not None else Demultiplexer()
        self._end: End | None = None
        self._over = False
        self._times = command.times
        with TimedClient(settings) if self._times is not OFF else Client(settings) as client:
            begun = self._times.now()
            self._id, self._stream = client.execs.run(container, _body(command))
            self._times.note("request", begun)

    @property
    def readable(self) -> Collection[int]:
        return () if self._over else (self._stream.fileno(),)

    @property
    def writable(self) -> int:
        return self._stream.fileno()

    @property
    def pending(self) -> bool:
        return self._stream.pending

    def receive(self, ready: Collection[int]) -> Iterator[tuple[StreamName, bytes]]:
        data = self._stream.receive()
        self._over = not data
        if self._frames is None:
            if data:
                yield "stdout", data
            return
        for stream, piece in self._frames.feed(data):
            yield ("stderr" if stream == STDERR else "stdout"), piece

    def send(self, data: bytes | memoryview) -> int:
        return self._stream.try_send(data)

    def end_input(self) -> None:
        self._stream.end_input()

    @property
    def ended(self) -> bool:
        return self._end is not None or (
            self._frames is not None and self._frames.status is not None
        )

    def end(self) -> End:
        if self._end is None:
            self._end = self._told() or self._asked()
        return self._end

    def steps(self) -> Sequence[Step]:
        until_ns = self._times.now()
        with Client(self._settings) as client:
            found = client.execs.inspect(self._id)
        return with_program(steps_of(found.get("Steps", ())), until_ns=until_ns)

    def _told(self) -> End | None:
        """Return what the last frame has said."""
        if self._frames is None or self._frames.status is None:
            return None
        status, usage = self._frames.status, self._frames.usage
        if status == _KILLED:
            with suppress(WrongStateError):  # the engine has not heard of it yet
                return self._asked()
        return End(status, usage_of(usage))

    def _asked(self) -> End:
        """Return what the engine says: a terminal has no frames, nor has what could not be run."""
        until_s = time.monotonic() + (_SETTLE_S if self._over else 0.0)
        with Client(self._settings) as client:
            try:
                while (found := client.execs.inspect(self._id))["ExitCode"] is None:
                    if time.monotonic() > until_s:
                        hint = "read its output first"
                        raise WrongStateError("the process has not ended", hint=hint)
                    client.containers.inspect(self._container)
                    time.sleep(_AGAIN_S)
            except NotFoundError:
                if not self._over:
                    raise
                return self._killed({})  # it went with its sandbox
        if found["ExitCode"] == _KILLED:
            return self._killed(found)
        return End(int(found["ExitCode"]), usage_of(found.get("Usage", ())))

    def _killed(self, found: Mapping[str, Any]) -> End:
        return End(
            _KILLED,
            usage_of(found.get("Usage", ())),
            timed_out=found.get("TimedOut", time.monotonic() >= self._ends_s),
            oom_killed=found.get("OOMKilled", False),
        )

    def kill(self) -> None:
        try:
            with Client(self._settings) as client:
                client.execs.kill(self._id)
        except NotFoundError:  # it went with its sandbox
            pass

    def resize(self, size: Size) -> None:
        with Client(self._settings) as client:
            client.execs.resize(self._id, height=size.rows, width=size.columns)

    def close(self) -> None:
        self._stream.close()


def usage_of(told: Sequence[int]) -> Usage:
    """Return what the engine says of a sandbox's or a command's usage; of none, nothing."""
    if not told:
        return Usage()
    user_us, system_us, peak, read, written = told
    return Usage(user_us / 1e6, system_us / 1e6, peak, read, written)


def _body(command: Command) -> dict[str, Any]:
    """Return the body of POST /containers/…/exec."""
    terminal = command.terminal is not None
    return {
        "Cmd": list(command.words),
        "Env": variables(command.environment),
        "User": command.user,
        "WorkingDir": command.workdir,
        "Tty": terminal,
        "ConsoleSize": list(command.terminal) if command.terminal is not None else None,
        "AttachStdin": command.has_input,
        "AttachStdout": True,
        "AttachStderr": not terminal,
        "Group": True,
        "Timeout": command.timeout,
    }
