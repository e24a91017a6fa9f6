"""The timed steps of one start, of the parent and of its child.

The child records its own steps and writes the begin of each to its report, as one line,
before it loads the filter, which may forbid reading the clock or writing. So the last
reported step lasts until the program runs:
    NUL shield 1200300 enter_cgroup 1200310 … load_filter 1203400 LF
"""

from __future__ import annotations

import os
import time

from orlop.model.light import TYPE_CHECKING, Sequence
from orlop.model.timeline import Recorder
from orlop.model.timeline import Step as Taken

if TYPE_CHECKING:
    from orlop.model.light import Iterator
    from orlop.runtime.child import Child, Step

_BEGIN, _END = b"\0", b"\n"
_UNTOLD = "load_filter"
_LAST = "execve"  # until the program runs: the filter, capabilities, execve(2)


class Notes:
    """Records consecutive steps; call it with the name of the step that ends now."""

    def __init__(self, room: str) -> None:
        self._times = Recorder(room)
        self._since_ns = self._times.now()

    def __call__(self, step: str) -> None:
        self._since_ns = self._times.note(step, self._since_ns)

    @property
    def steps(self) -> Sequence[Taken]:
        return self._times.steps


def noted(child: Child, steps: Sequence[Step]) -> Iterator[Step]:
    """Yield the steps, and report to the parent when each of them began."""
    begun: list[str] = []
    for step in steps:
        name = step.__name__
        begun.append(f"{name} {time.monotonic_ns()}")
        if name == _UNTOLD:
            os.write(child.report, _BEGIN + " ".join(begun).encode() + _END)
        yield step


def take_notes(report: bytes, *, until_ns: int) -> tuple[list[Taken], bytes]:
    """Return the steps of a child whose program ran at *until_ns*, and the rest of its report."""
    if not report.startswith(_BEGIN):
        return [], report
    line, _, rest = report[len(_BEGIN) :].partition(_END)
    words = line.decode().split()
    return steps_of_child([*zip(words[::2], map(int, words[1::2]), strict=True)], until_ns), rest


def steps_of_child(begun: Sequence[tuple[str, int]], until_ns: int) -> list[Taken]:
    """Return a child as a whole and its steps, from when each has begun, the program's last."""
    if not begun:
        return []
    names = [name for name, _ in begun]
    told = begun[: names.index(_UNTOLD) + 1] if _UNTOLD in names else begun
    ends = [*(begin for _, begin in told[1:]), until_ns]
    steps = [
        Taken(_LAST if name == _UNTOLD else name, "child", begin, end)
        for (name, begin), end in zip(told, ends, strict=True)
    ]
    return [Taken("child", "child", told[0][1], until_ns), *steps]
