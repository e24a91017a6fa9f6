"""A sandbox for each command: started with it, and gone when it has ended."""

from orlop.errors import UnsupportedError, WrongStateError
from orlop.sandbox.boxes.sandbox import Sandbox
from orlop.sandbox.options import Options, named
from orlop.sandbox.processes.commands import Commands
from orlop.sandbox.processes.process import Process
from orlop.sandbox.timeline import Timeline
from orlop.sandbox.way import Command, Handle, timed
from orlop.sandbox.ways.containers import with_image
from orlop.sandbox.ways.direct import command_message, handle_of, start_message


@named
class Runner(Options, Commands):
    """Runs commands, each in a sandbox of its own with these options: one request a command.

        runner = orlop.Runner(image="busybox", memory="64m")
        assert runner.run(["echo", "hi"]).stdout == b"hi\n"

    The command is the sandbox's first process, so all that it has started ends with it. It
    can be used by any number of threads. Its options are those of Sandbox, but for *name* and
    *keep*.
    """

    def _begin(self, command: Command) -> Process:
        if self.keep or self.name is not None:
            raise WrongStateError("a runner's sandboxes have no name and are not kept")
        try:
            return Process(_Boxes(self), timed(command) if self.timed else command)
        except UnsupportedError:  # the usual way: a command in a sandbox
            return _InSandbox(Sandbox(**self.given()), command)


class _Boxes:
    """Starts a sandbox for each command that it is given."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def exec(self, command: Command) -> Handle:
        """See Box.exec. UnsupportedError where that is not so easy."""
        options = self._options
        return with_image(options.settings(), options.reference, lambda: self._start(command))

    def _start(self, command: Command) -> Handle:
        options = self._options
        if command.user:  # whose sandboxes are of another recipe
            options = Options(**{**options.given(), "user": command.user})
        message = {**start_message(options), **command_message(command)}
        return handle_of(options.settings(), message, command)


class _InSandbox(Process):
    """A command in a sandbox that is closed with it."""

    def __init__(self, sandbox: Sandbox, command: Command) -> None:
        self._sandbox = sandbox
        command = timed(command) if sandbox.timed else command
        begun = command.times.now()
        sandbox.start()
        self._started_ns = command.times.note("start", begun)
        try:
            super().__init__(sandbox.box, command)
        except BaseException:
            sandbox.close()
            raise

    def _timeline(self) -> Timeline:
        own = super()._timeline()
        if not self._sandbox.timed:
            return own
        before = [step for step in self._sandbox.box.timeline() if step.end_ns <= self._started_ns]
        return Timeline([*before, *own])

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._sandbox.close()
