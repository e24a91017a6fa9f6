"""Where the time of a start, or of a command, went: shown on a terminal, or kept as a trace."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from typing import Any, overload

from orlop.model.timeline import Step

_WIDTH = 120  # of what is no terminal


class Timeline(Sequence[Step]):
    """Steps in order of their begin; empty where nobody asked for them (`timed=True`).

    `print(timeline)` shows them as `orlop run --timeline` does, and `save("trace.json")`
    writes what Perfetto and chrome://tracing open.
    """

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self._steps = tuple(sorted(steps, key=lambda step: (step.begin_ns, -step.end_ns)))

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Step]: ...

    def __getitem__(self, index: int | slice) -> Step | Sequence[Step]:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def seconds(self) -> float:
        """From the first step's begin to the last end."""
        if not self._steps:
            return 0.0
        return (max(step.end_ns for step in self) - self._steps[0].begin_ns) / 1e9

    def __repr__(self) -> str:
        return f"<Timeline of {len(self)} steps, {1000 * self.seconds:.3f} ms>"

    def __str__(self) -> str:
        return self.waterfall(width=shutil.get_terminal_size((_WIDTH, 0)).columns)

    def waterfall(self, *, width: int = _WIDTH, color: bool = False) -> str:
        """Return a line for each step: when it began, how long it took, who did it, and a bar."""
        from orlop.model.waterfall import waterfall

        return "\n".join(waterfall(self, width=width, color=color))

    def trace(self) -> dict[str, Any]:
        """Return the steps in Chrome's trace event format, to be written as JSON."""
        from orlop.model.trace_events import trace

        return trace(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write trace() to the file *path*."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.trace(), file)


def with_exit(steps: Sequence[Step], exit_time_ns: int) -> list[Step]:
    """Return *steps* with the program's, which is told just now to have ended at a time of day.

    Where they have its end already, they are all.
    """
    told_ns = time.monotonic_ns()
    exit_ns = told_ns + exit_time_ns - time.time_ns() if exit_time_ns else told_ns
    whole = with_program(steps, until_ns=min(exit_ns, told_ns))
    if len(whole) == len(steps):
        return whole
    return [*whole, Step("record_exit", "engine", min(whole[-1].end_ns, told_ns), told_ns)]


def with_program(steps: Sequence[Step], *, until_ns: int = 0) -> list[Step]:
    """Return *steps* with the program's, from its first instruction on, where that is missing.

    It lasts *until_ns*, or until now.
    """
    made = [step.end_ns for step in steps if step.room == "child"]
    if not made or any(step.room == "container" for step in steps):
        return list(steps)
    begin_ns, end_ns = max(made), until_ns or time.monotonic_ns()
    return [*steps, Step("program", "container", begin_ns, max(begin_ns, end_ns))]
