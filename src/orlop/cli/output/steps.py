"""What a long command is doing: a bar on a terminal, else a line for each new step."""

from __future__ import annotations

from orlop.cli.screen import canvas
from orlop.model.plain import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

    from rich.progress import Progress


class Steps:
    """Shows one step at a time, with how much of it is done."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._bar: Progress | None = None
        self._shown = ""

    def __enter__(self) -> Self:
        if self._out.isatty():
            from rich.console import Console
            from rich.progress import Progress

            console = Console(file=canvas(self._out), highlight=False, markup=False, emoji=False)
            self._bar = Progress(console=console, transient=True)
            self._bar.start()
            self._bar.add_task("", total=1.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, what: str, share: float) -> None:
        """Say that *what* is being done, and how much of it is: 0 to 1."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=one_line(what), completed=share)
        elif (step := what.partition(" ")[0]) != self._shown:
            self._shown = step
            print(what, file=self._out, flush=True)
