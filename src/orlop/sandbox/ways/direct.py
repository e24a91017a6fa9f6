"""The quick way: sandboxes by recipes, commands with pipes of our own (client/direct.py).

What it cannot do the engine refuses as unsupported; then the usual way is taken.
"""

import weakref
from _thread import allocate_lock
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

from orlop.client.address import Settings
from orlop.client.client import Client
from orlop.client.direct import Connection, Connections, connections
from orlop.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    NotFoundError,
    OrlopError,
    UnavailableError,
    UnsupportedError,
    WrongStateError,
)
from orlop.model.timeline import OFF, Step, steps_of
from orlop.sandbox.options import IDLE, Options, variables
from orlop.sandbox.processes.pipes import PipeHandle, close_all
from orlop.sandbox.processes.refused import Refused
from orlop.sandbox.result import StreamName
from orlop.sandbox.timeline import with_exit
from orlop.sandbox.way import Box, Command, End, Handle, Way
from orlop.sandbox.ways.containers import ContainerBox, ContainerWay, with_image
from orlop.sandbox.ways.execs import usage_of


def way_of(options: Options) -> Way:
    """Return how a sandbox with these *options* is started."""
    return DirectWay(options.settings())


class DirectWay:
    """See Way."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self, options: Options) -> Box:
        if not is_direct(options) or tuple(options.command) != IDLE:
            return ContainerWay(self._settings).start(options)
        try:
            return with_image(self._settings, options.reference, lambda: self._start(options))
        except UnsupportedError:
            return ContainerWay(self._settings).start(options)

    def _start(self, options: Options) -> Box:
        return started(self._settings, start_message(options))[0]

    def start_many(self, options: Options, count: int) -> list[Box]:
        usual = ContainerWay(self._settings)
        if not is_direct(options) or tuple(options.command) != IDLE:
            return usual.start_many(options, count)
        message = {**start_message(options), "count": count}
        try:
            return with_image(
                self._settings, options.reference, lambda: started(self._settings, message)
            )
        except UnsupportedError:
            return usual.start_many(options, count)

    def close_many(self, boxes: Sequence[Box]) -> None:
        direct = [box for box in boxes if isinstance(box, DirectBox)]
        ContainerWay(self._settings).close_many([box for box in boxes if box not in direct])
        ids = [box.id for box in direct if box.leave()]
        if ids:
            with suppress(UnavailableError), connections(self._settings).lent() as connection:
                connection.request({"op": "close", "ids": ids})
        for box in direct:
            box.left()


def started(settings: Settings, message: dict[str, Any]) -> list[Box]:
    """Ask for sandboxes by *message*; return them."""
    free = connections(settings)
    connection, made = free.ask(message)
    ids = made.get("ids") or [made["id"]]
    holder = Holder(free, connection, len(ids))
    return [DirectBox(settings, one, holder) for one in ids]


class Holder:
    """The connection whose sandboxes end with it, until the last of *count* is closed."""

    def __init__(self, free: Connections, connection: Connection, count: int) -> None:
        self._free = free
        self._left = self.count = count
        self.connection = connection
        self._dropped = weakref.finalize(self, connection.close)
        self._lock = allocate_lock()
        self._asked = 0
        self._failure: OrlopError | None = None

    def ask(self, message: dict[str, Any]) -> None:
        """Ask for what it is to hold, without waiting; begun() does."""
        self._asked = self.connection.post(message)

    def begun(self) -> None:
        """Wait until it is there. OrlopError, each time, where it could not be started."""
        with self._lock:
            asked, self._asked = self._asked, 0
            if asked:
                try:
                    self.connection.answer(asked)
                except OrlopError as error:
                    self._failure = error
        if self._failure is not None:
            raise self._failure

    def left(self) -> None:
        """Take note that one of the sandboxes is gone."""
        self._left -= 1
        if not self._left:
            self._dropped.detach()
            self._free.give_back(self.connection)


def is_direct(options: Options) -> bool:
    """Whether the engine may be asked at all: what outlives its connection has a record."""
    return not options.keep and options.name is None


def start_message(options: Options) -> dict[str, Any]:
    """Return the request that starts a sandbox; its own options are the recipe's name."""
    body = {**options.body(), "Entrypoint": [], "Cmd": []}
    message: dict[str, Any] = {"op": "start", "options": body}
    if options.disk_bytes is not None:
        message["disk"] = options.disk_bytes
    if options.lifetime is not None:
        message["lifetime"] = options.lifetime
    if options.timed:
        message["timeline"] = True
    return message


class DirectBox(ContainerBox):
    """See Box. The sandbox is its *holder*'s, and ends with that; the rest goes over HTTP."""

    def __init__(self, settings: Settings, identifier: str, holder: Holder) -> None:
        super().__init__(settings, identifier, None)
        self._connected = holder
        self._closed = False

    @property
    def id(self) -> str:
        self._connected.begun()
        return self._id

    @property
    def watched(self) -> int:
        connection = self._connected.connection
        if connection.has_exit(self.id):  # it came with the answer to its start
            raise self._ended()
        return connection.fileno() if self._connected.count == 1 else -1

    def leave(self) -> bool:
        """Say that it is about to be closed; False where it has been."""
        is_open = not self._closed and self._connected.connection.is_ours  # not a child's copy
        self._closed = True
        if is_open:
            try:
                self._connected.begun()
            except OrlopError:  # there is nothing to be closed
                self.left()
                return False
        return is_open

    def left(self) -> None:
        """Say that it has been closed."""
        self._connected.left()

    def close(self) -> None:
        if not self.leave():
            return
        connection, message = self._connected.connection, {"op": "close", "id": self.id}
        try:
            connection.request(message)
        except UnavailableError:  # its engine has gone; a next one knows the sandbox
            connection.close()
            try:
                with suppress(NotFoundError), Client(self._settings) as client:
                    client.containers.remove(self.id, force=True)
            except (OrlopError, OSError):
                self._closed = False  # so that it can be tried again
                raise
        except BaseException:
            connection.close()
            raise
        self.left()

    def exec(self, command: Command) -> Handle:
        if command.terminal is not None:
            return super().exec(command)
        message = {"op": "exec", "id": self.id, "user": command.user, **command_message(command)}
        try:
            return handle_of(self._settings, message, command)
        except UnsupportedError:
            return super().exec(command)

    def fork(self, options: Options, count: int, *, processes: bool) -> list[Box]:
        if processes:
            raise UnsupportedError(
                f"sandbox {self.id[:12]} has no process of its own that could be forked",
                hint="give it a command=, and what it starts is forked with it",
            )
        free, message = connections(self._settings), start_message(options)
        wanted = {"op": "fork", "id": self.id, "count": count, "disk": message.get("disk", 0)}
        first = free.take()  # which keeps all of them until they are started
        forks: list[Box] = []
        try:
            for identifier in first.request(wanted)["ids"]:
                holder = Holder(free, free.take() if forks else first, 1)
                forks.append(DirectBox(self._settings, identifier, holder))
                holder.ask({**message, "fork": identifier})
        except BaseException:
            first.close()
            for fork in forks:
                fork.close()
            raise
        return forks


def command_message(command: Command) -> dict[str, Any]:
    """Return what a request says of a command."""
    return {
        "args": list(command.words),
        "env": variables(command.environment),
        "folder": command.workdir,
        **({} if command.timeout is None else {"timeout": command.timeout}),
        **({} if command.times is OFF else {"timeline": True}),
    }


def handle_of(settings: Settings, message: dict[str, Any], command: Command) -> Handle:
    """Start *command* by the request *message*; one that cannot be run has ended."""
    try:
        return DirectHandle(connections(settings), message, command)
    except (CommandNotFoundError, CommandNotExecutableError) as error:
        return Refused(str(error), exit_code=error.exit_code)


class DirectHandle(PipeHandle):
    """See Handle. Its streams are pipes; the connection tells its end."""

    def __init__(self, free: Connections, message: dict[str, Any], command: Command) -> None:
        super().__init__()
        self._free = free
        self._message = message
        self._times, self._steps = command.times, list[Step]()
        self._connection: Connection | None = None
        theirs: list[int] = []
        try:
            try:
                begun = self._times.now()
                self._open_pipes(theirs)
                self._connection, made = free.ask(message, theirs)
                self._times.note("request", begun)
            finally:
                close_all(theirs)
            self._key: str = made.get("exec") or made["id"]
            self._steps = steps_of(made.get("steps", ()))
        except OrlopError:
            self._let_go(is_quiet=True)
            raise
        except BaseException:
            self._let_go(is_quiet=False)
            raise
        if not command.has_input:
            self.end_input()

    @property
    def readable(self) -> Collection[int]:
        if self._end is None and self._connection is not None:
            return (*self._outputs, self._connection.fileno())
        return tuple(self._outputs)

    @property
    def pending(self) -> bool:
        connection = self._connection
        return self._end is None and connection is not None and connection.has_exit(self._key)

    def receive(self, ready: Collection[int]) -> Iterator[tuple[StreamName, bytes]]:
        yield from self._receive(ready)
        connection = self._connection
        if connection is None or self._end is not None or connection.fileno() not in ready:
            return
        exit_ = connection.take_exit(self._key)
        if exit_ is None:
            return
        self._end = End(
            exit_["status"],
            usage_of(exit_["usage"]),
            timed_out=exit_.get("timed_out", False),
            oom_killed=exit_.get("oom", False),
        )
        if self._times is not OFF:
            self._steps = with_exit(self._steps, exit_.get("time_ns", 0))
        yield from self._drain()

    def steps(self) -> Sequence[Step]:
        return self._steps

    def kill(self) -> None:
        if self._end is not None and self._message["op"] == "start":
            return
        with suppress(NotFoundError, WrongStateError), self._free.lent() as connection:
            if self._message["op"] == "start":
                connection.request({"op": "close", "id": self._key})
            else:
                sandbox = self._message["id"]
                connection.request({"op": "kill", "id": sandbox, "exec": self._key})

    def close(self) -> None:
        self._let_go(is_quiet=self._end is not None)

    def _let_go(self, *, is_quiet: bool) -> None:
        """Close what is open; a connection on which nothing more will come is used again."""
        self._close_pipes()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if is_quiet:
            self._free.give_back(connection)
        else:
            connection.close()
