"""A sandbox's life, and what it is asked, for programs that wait for the answers."""

import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Self
from weakref import WeakSet

from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError, WrongStateError
from orlop.model.timeline import OFF, Recorder
from orlop.sandbox.arguments import is_count, user_text
from orlop.sandbox.boxes.files import Files
from orlop.sandbox.closing import Closing, not_open
from orlop.sandbox.options import Options, named
from orlop.sandbox.processes.commands import Commands
from orlop.sandbox.processes.process import Process, Terminal
from orlop.sandbox.result import Usage
from orlop.sandbox.timeline import Timeline, with_program
from orlop.sandbox.way import Box, Command, Size, timed
from orlop.sandbox.ways.direct import way_of


@named
class Sandbox(Options, Closing, Commands):
    """An isolated place to run commands, gone at the end of its `with` block.

    It also goes when this object is dropped, and when the program is killed: the
    engine ends what has no owner any more, unless *keep* is set.

    Options:
        image: what its files are at first: a reference, which is pulled where it is missing;
            an Image, which is built; a snapshot; or "host", this machine's own programs.
        name: the container's name, for `orlop` and `docker`.
        memory: limit in bytes, or such as "256m"; files in memory count, too.
        cpus: limit in processors' worth of time, such as 0.5.
        pids: limit of processes and threads; 4096 unless given.
        environment: variables of every command.
        mounts: folders and volumes, as `orlop run -v` has them: "/host/folder:/inside:ro".
        user: name or id that commands run as, also with a group: "65534:100".
        workdir: folder in which commands begin.
        network: "none", "bridge", "host", or a network's name.
        neighbours: whether other containers of its network reach it, and it them, other than by
            published ports; unless given, not on "bridge", but on networks that you made.
        ports: TCP ports to publish on this machine: {80: 8080} as 8080, [80] as any free one.
        egress: all that it may send to, such as ["pypi.org:443"]; [] is nothing, None everything.
        cap_add: capabilities beyond Docker's default without NET_RAW, such as ["NET_ADMIN"].
        userns: "auto" for a user namespace, in which root is an unprivileged user of this machine;
            a user of /etc/subuid, or "FIRST:SIZE", for other ids. Its start is slower.
        read_only: only /tmp can be written.
        command: its first process, with which it ends; unless given, one that waits.
        keep: it stays when its block, or its owner, ends.
        lifetime: seconds, after which the engine ends it, whoever owns it.
        disk: limit in bytes, or such as "100m", of what its files may grow by; 1 GiB unless given.
        timed: the steps of its start and its commands are kept, for timeline().
        engine: address of the engine, unix:///… or tcp://…; else as for the command line.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._box: Box | None = None
        self._was_started = False
        self._times: Recorder = OFF
        self._gone: Box | None = None  # once closed, of one that is timed
        self._forks: WeakSet[Sandbox] = WeakSet()

    def __enter__(self) -> Self:
        return self if self.started else self.start()

    def start(self) -> Self:
        """Create it, pulling its image where that is missing; close() is then the caller's."""
        if self._box is not None:
            raise WrongStateError("the sandbox has been started")
        self._times = Recorder("client") if self.timed else OFF
        begun = self._times.now()
        self._box, self._was_started = way_of(self).start(self), True
        self._times.note("start", begun)
        return self

    def close(self) -> None:
        """Remove it and its forks, with all that runs in them; again is no error.

        Of those that are to be kept only this object is done.
        """
        begun, box = self._times.now(), self._box
        with ExitStack() as stack:
            if box is not None:
                stack.callback(box.close)
            for fork in list(self._forks):
                stack.callback(fork.close)
        self._box = None
        if box is not None and self.timed:
            self._times.note("close", begun)
            self._gone = box

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
            raise not_open("sandbox", was_started=self._was_started)
        return self._box

    @property
    def files(self) -> Files:
        """Its files: read, write, copy folders in and out."""
        return Files(self.box)

    def _begin(self, command: Command) -> Process:
        return Process(self.box, timed(command) if self.timed else command)

    def terminal(  # noqa: PLR0913 (see Commands.run)
        self,
        command: Sequence[str] = ("sh",),
        *,
        rows: int = 24,
        columns: int = 80,
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | int = "",
        workdir: str = "",
    ) -> Terminal:
        """Start *command* at a terminal and return it, to be used in a `with` block as exec()'s."""
        wanted = Command(
            words=command,
            has_input=True,
            environment=environment or {},
            user=user_text(user),
            workdir=workdir,
            terminal=Size(rows, columns),
            timeout=timeout,
        )
        return Terminal(self.box, wanted)

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

    def timeline(self) -> Timeline:
        """Return its steps so far, also once it is closed; NotFoundError unless it is *timed*.

        What has begun with its first instruction is `program`. Commands have timelines of
        their own: Result.timeline.
        """
        if not self.timed:
            raise NotFoundError("there is no timeline of the sandbox", hint="timed=True")
        box = self._gone if self._box is None and self._gone is not None else self.box
        return Timeline([*self._times.steps, *with_program(box.timeline())])

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

        With *processes* the first process, which must be a *command* of the sandbox's own,
        goes on in each, with its memory, all that it has started, and what is in memory.

        It returns once the files are copied: the sandboxes are being started meanwhile, and
        who asks for something of one, or for its id, waits for it, or is told why it cannot be.

        Raises:
            UnsupportedError: there is no CRIU, or it cannot copy what the processes have.
            WrongStateError: beside the first process commands run, which cannot be copied.
            ExhaustedError: the copies would take more than half of the memory that is free.
        """
        if not is_count(count):
            raise InvalidArgumentError(f"invalid number of forks {count!r}")
        options = self.of_fork()
        forks = Sandbox.many(
            options, lambda: self.box.fork(options, count, processes=processes), how="fork"
        )
        self._forks.update(forks)
        return forks

    @classmethod
    def many(
        cls, options: Options, start: Callable[[], list[Box]], *, how: str = "start"
    ) -> "list[Sandbox]":
        """Return those that *start* starts, which is the first step of each if they are timed."""
        times = Recorder("client") if options.timed else OFF
        begun = times.now()
        made = [cls.of(options, box) for box in start()]
        times.note(how, begun)
        for sandbox in made:
            sandbox._times.add(times.steps)
        return made

    @classmethod
    def of(cls, options: Options, box: Box) -> "Sandbox":
        """Return a sandbox that was started by other means; it is this object's then."""
        made = Sandbox(**options.given())
        made._box, made._was_started = box, True
        made._times = Recorder("client") if options.timed else OFF
        return made

    def release(self) -> Box:
        """Return what close() would close, which is the caller's then; its forks are closed."""
        box, self._box = self.box, None
        self._gone = box if self.timed else None
        self.close()
        return box
