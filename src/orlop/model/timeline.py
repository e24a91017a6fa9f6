"""The steps of a start, each with its begin and end.

Times are nanoseconds of CLOCK_MONOTONIC, so those of all processes on a machine can be
compared; a step is part of the shortest one that contains it. A room records its steps with a
Recorder, or, if nobody asked for them, with OFF, which makes no objects and reads no clock:

    times = Recorder("shim") if asked else OFF
    since = times.now()
    config = read_config(bundle)
    since = times.note("read_config", since)  # it ends now, and the next begins
    cloned = clone3(flags)
    times.note("clone", since)
    answer["steps"] = times.steps  # in JSON [name, room, begin_ns, end_ns] each; steps_of()
"""

from __future__ import annotations

import time

from orlop.model.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any


#: In the order of calls; "child" is a container's process before its program.
ROOMS = ("client", "engine", "shim", "child", "container")


class Step(NamedTuple):
    """A step, and who did it: one of ROOMS."""

    name: str
    room: str
    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.begin_ns) / 1e9

    def contains(self, other: Step) -> bool:
        """Whether *other* lies within it, or has the same times."""
        return self.begin_ns <= other.begin_ns and other.end_ns <= self.end_ns


_step = tuple.__new__  # takes a third of the time of Step()


class Recorder:
    """Records the steps of one room, for one start."""

    __slots__ = ("room", "steps")

    def __init__(self, room: str) -> None:
        self.room = room
        self.steps: list[Step] = []

    def now(self) -> int:
        """Return the time at which a step begins."""
        return time.monotonic_ns()

    def note(self, name: str, begin_ns: int) -> int:
        """Record a step that ends now; return now, the begin of the next one."""
        end_ns = time.monotonic_ns()
        self.steps.append(_step(Step, (name, self.room, begin_ns, end_ns)))
        return end_ns

    def add(self, steps: Iterable[Step]) -> None:
        """Add the steps that others have recorded."""
        self.steps.extend(steps)


class _Off(Recorder):
    """Records nothing."""

    __slots__ = ()

    def now(self) -> int:
        return 0

    def note(self, name: str, begin_ns: int) -> int:
        return 0

    def add(self, steps: Iterable[Step]) -> None:
        return


#: The recorder of a start that is not timed.
OFF: Recorder = _Off("")


def steps_of(told: Iterable[Sequence[Any]]) -> list[Step]:
    """Return another process's steps, from JSON."""
    return [Step(*step) for step in told]


class Place(NamedTuple):
    """The position of a step among the others."""

    step: Step
    depth: int  # the number of steps that it is part of
    outer: int  # the index, by begin, of the step that it is part of; or -1


def nested(steps: Iterable[Step]) -> Iterator[Place]:
    """Yield the steps in order of their begin, each with its position.

    Rooms work at the same time, so a step that contains another need not have called it: a
    step is part of the innermost one of its own room, else of the nearest room that calls it.
    """
    places: list[Place] = []
    open_: list[int] = []  # indexes of those that contain the next, outermost first
    for step in sorted(steps, key=lambda step: (step.begin_ns, -step.end_ns)):
        while open_ and not places[open_[-1]].step.contains(step):
            open_.pop()
        ranked = [(_rank(places[number].step), number) for number in open_]
        outer = max((pair for pair in ranked if pair[0] <= _rank(step)), default=(0, -1))[1]
        depth = places[outer].depth + 1 if outer >= 0 else 0
        open_.append(len(places))
        places.append(Place(step, depth, outer))
        yield places[-1]


def _rank(step: Step) -> int:
    return ROOMS.index(step.room) if step.room in ROOMS else len(ROOMS)
