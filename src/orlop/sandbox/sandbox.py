"""A sandbox's life, and what it is asked, for programs that wait for the answers."""

import select
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Self
from weakref import WeakSet

from orlop.errors import InvalidArgumentError, OrlopError, WrongStateError
from orlop.model.timeline import Step
from orlop.sandbox.choose import way_of
from orlop.sandbox.closing import Closing
from orlop.sandbox.commands import Commands
from orlop.sandbox.files import Files
from orlop.sandbox.options import Options
from orlop.sandbox.process import Process
from orlop.sandbox.result import Usage
from orlop.sandbox.terminal import Terminal
from orlop.sandbox.way import Box, Command, Size


class Sandbox(Options, Closing, Commands):
    """An isolated place to run commands, gone at the end of its `with` block.

    It also goes when this object is dropped, and when the program is killed: the
    engine ends what has no owner any more, unless *keep* is set.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._box: Box | None = None
        self._forks: WeakSet[Sandbox] = WeakSet()

    def __enter__(self) -> Self:
        return self if self.started else self.start()

    def start(self) -> Self:
        """Create it, pulling its image where that is missing; close() is then the caller's."""
        if self._box is not None:
            raise WrongStateError("the sandbox has been started")
        self._box = way_of(self).start(self)
        return self

    def close(self) -> None:
        """Remove it and its forks, with all that runs in them; again is no error.

        Of those that are to be kept only this object is done.
        """
        with ExitStack() as stack:
            if self._box is not None:
                stack.callback(self._box.close)
            for fork in list(self._forks):
                stack.callback(fork.close)
        self._box = None

    @property
    def started(self) -> bool:
        """Whether it has been started, and not been closed."""
        return self._box is not None

    @property
    def alive(self) -> bool:
        """Whether nothing is known of its end: without asking, so that it costs nothing."""
        if self._box is None:
            return False
        try:
            watched = self._box.watched
        except OrlopError:  # a fork that could not be started
            return False
        poll = select.poll()
        if watched >= 0:
            poll.register(watched, select.POLLIN)
        return not poll.poll(0)

    @property
    def watched(self) -> int:
        """A descriptor for poll(2) that becomes readable at its end, or its engine's; -1 for none.

        Always -1 of one that is to be kept.
        """
        return self.box.watched

    @property
    def id(self) -> str:
        """The container's id, for `orlop` and `docker`; WrongStateError where it is not started."""
        return self.box.id

    @property
    def box(self) -> Box:
        """How it is asked; WrongStateError where it is not started."""
        if self._box is None:
            raise WrongStateError("the sandbox is not started", hint="use `with`, or start()")
        return self._box

    @property
    def files(self) -> Files:
        """Its files: read, write, copy folders in and out."""
        return Files(self.box)

    def _begin(self, command: Command, timeout: float | None) -> Process:
        return Process(self.box, command, timeout=timeout)

    def terminal(  # noqa: PLR0913 (see Commands.run)
        self,
        command: Sequence[str] = ("sh",),
        *,
        rows: int = 24,
        columns: int = 80,
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
    ) -> Terminal:
        """Start *command* at a terminal and return it, to be used in a `with` block as exec()'s."""
        wanted = Command(
            words=command,
            has_input=True,
            environment=environment or {},
            user=user,
            workdir=workdir,
            terminal=Size(rows, columns),
        )
        return Terminal(self.box, wanted, timeout=timeout)

    def pause(self) -> None:
        """Let nothing in it run until resume()."""
        self.box.pause()

    def resume(self) -> None:
        """Let it run again."""
        self.box.resume()

    def snapshot(self, name: str) -> str:
        """Make an image of what its files are now, for other sandboxes; return its id.

        Not of a sandbox of the image host: most of its files are this machine's.
        """
        return self.box.snapshot(name)

    def usage(self) -> Usage:
        """Return what all that has run in it has used so far."""
        return self.box.usage()

    def timeline(self) -> Sequence[Step]:
        """Return the steps of its start so far; NotFoundError unless it is *timed*."""
        return self.box.timeline()

    def address(self, port: int) -> tuple[str, int]:
        """Return host and port through which this machine reaches its TCP *port*.

        NotFoundError where it cannot: *port* is not published, and its network not this machine's.
        """
        return self.box.address(port)

    def fork(self, count: int = 1, *, processes: bool = False) -> "list[Sandbox]":
        """Start *count* sandboxes with this one's options, and copies of its files as they are now.

        All see the same moment, for which this one is paused. What is mounted or in memory
        (/tmp of a read-only sandbox) is not copied, and what runs here does not run there.
        Ports are published as others. They end with this one, or when they are closed.

        It returns once the files are copied: the sandboxes are being started meanwhile, and
        who asks for something of one, or for its id, waits for it, or is told why it cannot be.

        Raises:
            UnsupportedError: *processes* were to be copied, too.
            ExhaustedError: the copies would take more than half of the memory that is free.
        """
        if count < 1:
            raise InvalidArgumentError(f"invalid number of forks {count}")
        options = self.of_fork()
        forks = [
            Sandbox.of(options, box) for box in self.box.fork(options, count, processes=processes)
        ]
        self._forks.update(forks)
        return forks

    @classmethod
    def of(cls, options: Options, box: Box) -> "Sandbox":
        """Return a sandbox that was started by other means; it is this object's then."""
        made = Sandbox(**options.given())
        made._box = box
        return made

    def release(self) -> Box:
        """Return what close() would close, which is the caller's then; its forks are closed."""
        box, self._box = self.box, None
        self.close()
        return box
