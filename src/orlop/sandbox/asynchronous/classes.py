"""The same classes for programs with an event loop: each verb is the blocking one, in a thread.

Cancelling is safe everywhere. When the cancellation is seen, a cancelled run() or exec() has
been killed with all that it had started, and a cancelled start() has been undone.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial, wraps
from inspect import signature
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from orlop.sandbox.asynchronous.threads import in_thread, interruptible
from orlop.sandbox.boxes.batch import Batch, BatchOptions
from orlop.sandbox.boxes.files import Files
from orlop.sandbox.boxes.pool import Pool, PoolOptions
from orlop.sandbox.boxes.runner import Runner
from orlop.sandbox.boxes.sandbox import Sandbox
from orlop.sandbox.boxes.warm import PoolStats
from orlop.sandbox.closing import Closed
from orlop.sandbox.options import Options, named
from orlop.sandbox.processes.commands import Commands
from orlop.sandbox.processes.conversation import Conversation
from orlop.sandbox.processes.process import Process, Terminal
from orlop.sandbox.result import StreamName, Usage
from orlop.sandbox.templates.options import TemplateOptions
from orlop.sandbox.templates.template import Template

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
C = TypeVar("C", bound=Closed)
S = TypeVar("S", Sandbox, Pool, Template)
T = TypeVar("T", Process, Terminal)


def awaited(
    verb: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """Return a method to await that does *verb* with the core, which is a blocking object."""

    @wraps(verb)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await interruptible(partial(verb, self._core, *args, **kwargs))

    return method


def giving(
    face: Callable[[R], A], verb: Callable[Concatenate[Any, P], R]
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, A]]:
    """Return a method as awaited() does, which gives *face* of what *verb* returns.

    If it is cancelled and *verb* has returned already, what *verb* returned is closed.
    """

    @wraps(verb)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> A:
        def work() -> A:
            return face(verb(self._core, *args, **kwargs))

        return await interruptible(work, undo=_close)

    shown = signature(verb).replace(return_annotation=_returned(face))
    method.__signature__ = shown  # type: ignore[attr-defined]  # for help()
    return method


def _close(faces: Any) -> None:
    for face in faces if isinstance(faces, list) else [faces]:
        face._core.close()


def _returned(face: Callable[..., object]) -> object:
    return face if isinstance(face, type) else signature(face).return_annotation


class Face(Generic[C]):
    """Has a core, and closes it at the end of an `async with` block."""

    def __init__(self, core: C) -> None:
        self._core = core

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Do what close() of the blocking class does; again is no error."""
        await in_thread(self._core.close)


class Starting(Face[S]):
    """Starts its core at the begin of the block."""

    async def __aenter__(self) -> Self:
        return await self.start()

    async def start(self) -> Self:
        """Do what start() of the blocking class does. Cancelled, it has been undone."""
        core = self._core
        await interruptible(core.start, undo=lambda _: core.close())
        return self


class AsyncFiles:
    """See Files."""

    def __init__(self, core: Files) -> None:
        self._core = core

    read = awaited(Files.read)
    write = awaited(Files.write)
    put = awaited(Files.put)
    get = awaited(Files.get)

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """Yield the contents of the file *path* in pieces; its size has no limit."""
        pieces = self._core.stream(path)
        try:
            while (piece := await in_thread(lambda: next(pieces, None))) is not None:
                yield piece
        finally:
            await in_thread(pieces.close)


class AsyncConversation(Face[T]):
    """See Conversation. To cancel the wait for its output or its end kills the command."""

    async def __aenter__(self) -> Self:
        return self

    send = awaited(Conversation.send)
    kill = awaited(Conversation.kill)

    @property
    def exit_code(self) -> int:
        """Known once all output has been read; WrongStateError before."""
        return self._core.exit_code

    @property
    def usage(self) -> Usage:
        """What it has used in all, known when its exit code is."""
        return self._core.usage

    @property
    def timed_out(self) -> bool:
        """Whether it was killed at its time limit, or its sandbox's; known as its exit code is."""
        return self._core.timed_out

    @property
    def oom_killed(self) -> bool:
        """Whether it was killed for want of memory, known when its exit code is."""
        return self._core.oom_killed


class AsyncProcess(AsyncConversation[Process]):
    """See Process."""

    async def __aiter__(self) -> AsyncIterator[tuple[StreamName, bytes]]:
        pieces, kill = iter(self._core), self._core.kill
        while piece := await in_thread(lambda: next(pieces, None), interrupt=kill):
            yield piece

    result = awaited(Process.result)


class AsyncTerminal(AsyncConversation[Terminal]):
    """See Terminal."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces, kill = iter(self._core), self._core.kill
        while piece := await in_thread(lambda: next(pieces, None), interrupt=kill):
            yield piece

    resize = awaited(Terminal.resize)


class AsyncCommands:
    """See Commands."""

    run = awaited(Commands.run)
    exec = giving(AsyncProcess, Commands.exec)


@named
class AsyncRunner(Options, AsyncCommands):
    """See Runner: the same options and verbs, with await."""

    def __post_init__(self) -> None:
        self._core = Runner(**self.given())


def _faces(boxes: list[Sandbox]) -> "list[AsyncSandbox]":
    for box in boxes:
        _ = box.alive  # which waits for the start of a fork, and nothing else does
    return [AsyncSandbox.of(box) for box in boxes]


@named
class AsyncSandbox(Options, Starting[Sandbox], AsyncCommands):
    """See Sandbox: the same options and verbs, with await."""

    def __post_init__(self) -> None:
        self._core = Sandbox(**self.given())

    @classmethod
    def of(cls, box: Sandbox) -> "AsyncSandbox":
        """Return *box* with this class's verbs; it is one sandbox still."""
        made = cls.__new__(cls)
        vars(made).update(box.given(), _core=box)
        return made

    async def __aenter__(self) -> Self:
        return self if self.started else await self.start()

    terminal = giving(AsyncTerminal, Sandbox.terminal)
    pause = awaited(Sandbox.pause)
    resume = awaited(Sandbox.resume)
    snapshot = awaited(Sandbox.snapshot)
    usage = awaited(Sandbox.usage)
    timeline = awaited(Sandbox.timeline)
    address = awaited(Sandbox.address)
    fork = giving(_faces, Sandbox.fork)

    @property
    def started(self) -> bool:
        """Whether it has been started, and not been closed."""
        return self._core.started

    @property
    def alive(self) -> bool:
        """Whether nothing is known of its end: without asking, so that it costs nothing."""
        return self._core.alive

    @property
    def watched(self) -> int:
        """A descriptor for poll(2) that becomes readable at its end: see Sandbox.watched."""
        return self._core.watched

    @property
    def id(self) -> str:
        """The container's id, for `orlop` and `docker`; WrongStateError where it is not started."""
        return self._core.id

    @property
    def files(self) -> AsyncFiles:
        """Its files: read, write, copy folders in and out."""
        return AsyncFiles(self._core.files)


@named
class AsyncBatch(BatchOptions, Face[Batch]):
    """See Batch: `async with orlop.AsyncBatch(count=100) as boxes`."""

    def __post_init__(self) -> None:
        self._core = Batch(**self.given())

    async def __aenter__(self) -> list[AsyncSandbox]:
        return await self.start()

    async def start(self) -> list[AsyncSandbox]:
        """See Batch.start. Cancelled, it has been undone."""
        core = self._core
        return _faces(await interruptible(core.start, undo=lambda _: core.close()))


@named
class AsyncPool(PoolOptions, Starting[Pool]):
    """See Pool: the same options and verbs, with await: `async with await pool.take() as box`."""

    def __post_init__(self) -> None:
        self._core = Pool(**self.given())

    async def take(self, *, timeout: float | None = None) -> AsyncSandbox:  # noqa: ASYNC109 (as Pool.take)
        """See Pool.take. Where it is cancelled no sandbox is lost."""
        ready = self._core._warm.take_ready()
        return AsyncSandbox.of(ready) if ready else await self._take(timeout=timeout)

    _take = giving(AsyncSandbox.of, Pool.take)
    fill = awaited(Pool.fill)

    @property
    def ready(self) -> int:
        """How many can be taken at once."""
        return self._core.ready

    @property
    def stats(self) -> PoolStats:
        """How it is, and what has happened."""
        return self._core.stats


@named
class AsyncTemplate(TemplateOptions, Starting[Template]):
    """See Template: the same options and verbs, with await. A cancelled run has been killed."""

    def __post_init__(self) -> None:
        self._core = Template(**self.given())

    run = awaited(Template.run)

    @property
    def id(self) -> str:
        """The container's id; WrongStateError where it is not started."""
        return self._core.id
