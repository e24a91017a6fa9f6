"""Draw steps as a waterfall on a terminal: begin, duration, and who did it.

    begin     took
     0.00    14.21 ms  client    run                ██████████████████████
     0.31     2.10 ms  engine      create           ▕███▏

The program itself may run for hours: it gets at most a third of the width.
"""

from __future__ import annotations

from orlop.model.timeline import nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orlop.model.timeline import Step

PROGRAM = "container"  # the room of the program's own time
_LEAST_BAR, _MOST_NAME = 20, 40
_NARROW = 45  # columns besides the names: times, room, spaces
_COLORS = {"client": "36", "engine": "34", "shim": "35", "child": "33", PROGRAM: "32"}


class _Axis:
    """Maps times to columns, with the program's time shortened."""

    def __init__(self, steps: Sequence[Step], columns: int) -> None:
        self.begin_ns = min(step.begin_ns for step in steps)
        end_ns = max(step.end_ns for step in steps)
        programs = [step for step in steps if step.room == PROGRAM]
        self._cut = min(programs, key=lambda step: step.begin_ns) if programs else None
        self._factor = 1.0
        if self._cut is not None:
            length_ns = self._cut.end_ns - self._cut.begin_ns
            rest_ns = end_ns - self.begin_ns - length_ns
            self._factor = min(1.0, rest_ns / 3 / max(length_ns, 1))
        self._columns = columns
        self._length = max(self._place(end_ns), 1.0)

    @property
    def is_cut(self) -> bool:
        return self._factor < 1

    def _place(self, time_ns: int) -> float:
        """Return the distance of *time_ns* from the begin, in nanoseconds as drawn."""
        place = float(time_ns - self.begin_ns)
        if self._cut is not None and time_ns > self._cut.begin_ns:
            inside = min(time_ns, self._cut.end_ns) - self._cut.begin_ns
            place -= inside * (1 - self._factor)
        return place

    def column(self, time_ns: int) -> float:
        return self._place(time_ns) / self._length * self._columns


def waterfall(steps: Sequence[Step], *, width: int, color: bool = False) -> Iterator[str]:
    """Yield the lines, each at most *width* columns if possible."""
    if not steps:
        return
    rows = list(nested(steps))
    longest = max(2 * depth + len(step.name) for step, depth, _ in rows)
    names = min(longest, _MOST_NAME)
    axis = _Axis(steps, max(_LEAST_BAR, width - _NARROW - names))
    yield f"{'begin':>10} {'took':>10}"
    for step, depth, _ in rows:
        begin_ms = (step.begin_ns - axis.begin_ns) / 1e6
        name = f"{'  ' * depth}{step.name}"[:names]
        bar = _bar(axis.column(step.begin_ns), axis.column(step.end_ns))
        if color and step.room in _COLORS:
            bar = f"\x1b[{_COLORS[step.room]}m{bar}\x1b[0m"
        took_ms = step.seconds * 1e3
        yield f"{begin_ms:>10.3f} {took_ms:>10.3f} ms  {step.room:<9}  {name:<{names}}  {bar}"
    if axis.is_cut:
        yield "(the time of the program is drawn shorter than it was)"


def _bar(begin: float, end: float) -> str:
    """Return a bar from column to column; one shorter than a column is a thin line."""
    first = int(begin)
    full = round(end) - first
    return " " * first + ("█" * full if full >= 1 and end - begin >= 0.5 else "▏")
