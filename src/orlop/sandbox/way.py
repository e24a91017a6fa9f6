"""The seam between what programs hold and how an engine is asked.

Sandbox, Process, Terminal, Files and Pool know these protocols alone. Who implements them
is chosen by direct.way_of(), and nowhere else.

    Way.start(options) -> Box.exec(command) -> Handle, whose descriptors a Conversation polls
"""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from orlop.errors import InvalidArgumentError
from orlop.model.timeline import OFF, Recorder, Step
from orlop.sandbox.arguments import (
    check_seconds,
    check_text,
    check_variables,
    check_words,
    is_count,
)
from orlop.sandbox.options import Options
from orlop.sandbox.result import StreamName, Usage


class Size(NamedTuple):
    """A terminal's."""

    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is to run in a sandbox; InvalidArgumentError for what cannot be."""

    words: Sequence[str]
    has_input: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    terminal: Size | None = None  # without one its streams are pipes
    timeout: float | None = None  # seconds, after which it is killed with all it has started
    times: Recorder = OFF  # takes down the steps of one that is timed

    def __post_init__(self) -> None:
        check_words(self.words)
        check_variables(self.environment)
        check_text("user", self.user)
        check_text("workdir", self.workdir)
        check_seconds("timeout", self.timeout)
        size = self.terminal
        if size is not None and not all(is_count(n) and n < 65536 for n in size):
            raise InvalidArgumentError(f"invalid size of a terminal: {tuple(size)}")


def timed(command: Command) -> Command:
    """Return *command* with what takes down its steps."""
    return replace(command, times=Recorder("client"))


class End(NamedTuple):
    """Of a command."""

    exit_code: int
    usage: Usage
    timed_out: bool = False  # killed by the engine, at its own limit or its sandbox's
    oom_killed: bool = False


class Handle(Protocol):
    """A command that was started. Its streams may be pipes, or all of them one connection.

    Who talks to it polls what is `readable`, and `writable` while there is input to send,
    calls receive() for what is ready, and has all of it when nothing is readable any more.
    """

    @property
    def readable(self) -> Collection[int]:
        """Descriptors through which more may come: output, or the news of its end."""

    @property
    def writable(self) -> int:
        """The descriptor that its input goes to, maybe one of the readable; -1 for none."""

    @property
    def pending(self) -> bool:
        """Whether receive() has something that poll(2) does not know of."""

    def receive(self, ready: Collection[int]) -> Iterator[tuple[StreamName, bytes]]:
        """Yield what has arrived at *ready*, without waiting. A terminal's is all stdout."""

    def send(self, data: bytes | memoryview) -> int:
        """Send as much as fits now; return how many bytes. OSError if nobody reads it."""

    def end_input(self) -> None:
        """Let it read the end of its input."""

    @property
    def ended(self) -> bool:
        """Whether its end is known here, without asking."""

    def end(self) -> End:
        """Return what became of it; WrongStateError while it runs."""

    def steps(self) -> Sequence[Step]:
        """Return what others have done for it, if it is timed; once it has ended."""

    def kill(self) -> None:
        """Kill it with all that it has started; one that has ended is no error."""

    def resize(self, size: Size) -> None:
        """Change its terminal's size; WrongStateError if it has none."""

    def close(self) -> None:
        """Let go of its descriptors; again is no error. It is not killed by that."""


class Runs(Protocol):
    """Something in which commands are started."""

    def exec(self, command: Command) -> Handle:
        """Start *command*."""


class Box(Runs, Protocol):
    """A sandbox that was started, until it is closed."""

    @property
    def id(self) -> str:
        """How `orlop` and `docker` call it."""

    @property
    def watched(self) -> int:
        """A descriptor that becomes readable when the sandbox has gone; -1 for none.

        OrlopError where it has never been there, or is known to be gone.
        """

    def close(self) -> None:
        """Remove it with all that runs in it, unless it is to be kept; again is no error."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def snapshot(self, name: str) -> str:
        """Make an image *name* of its files; return the image's id."""

    def fork(self, options: Options, count: int, *, processes: bool) -> list["Box"]:
        """Start *count* with copies of its files; all or, where that fails, none.

        With *processes* its own go on in them.
        """

    def read_tar(self, path: str) -> Generator[bytes, None, None]:
        """Return *path* in it as a tar stream, asked for at once."""

    def write_tar(self, folder: str, tar: Iterable[bytes], *, user: str) -> None:
        """Unpack a tar stream in *folder* of it, for *user*; "": for whom its commands run as."""

    def usage(self) -> Usage:
        """Return what it has used so far."""

    def timeline(self) -> Sequence[Step]:
        """Return the steps of its start, if its options ask for them; else NotFoundError."""

    def address(self, port: int) -> tuple[str, int]:
        """Return where this machine reaches TCP *port* of it; NotFoundError for nowhere."""


class Way(Protocol):
    """How sandboxes are started."""

    def start(self, options: Options) -> Box:
        """Make and start one, pulling its image where that is missing."""

    def start_many(self, options: Options, count: int) -> list[Box]:
        """Start *count* with these options; all or, where that fails, none."""

    def close_many(self, boxes: Sequence[Box]) -> None:
        """Close all of them, which this way has started."""
