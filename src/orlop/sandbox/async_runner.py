"""The same runner for programs with an event loop."""

from orlop.sandbox.async_commands import AsyncCommands
from orlop.sandbox.options import Options, named
from orlop.sandbox.runner import Runner


@named
class AsyncRunner(Options, AsyncCommands):
    """See Runner: the same options and verbs, with await.

    A cancelled run() has been killed, with its sandbox, when the cancellation is seen.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._runner = Runner(**self.given())

    @property
    def _commands(self) -> Runner:
        return self._runner
