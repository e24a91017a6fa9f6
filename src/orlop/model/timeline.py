"""Where the time of a start went: steps, each with its begin and end.

Times are nanoseconds of CLOCK_MONOTONIC, so those of all processes of one machine
fit together; a step is part of the shortest one that contains it. A room notes its
steps with a Recorder, or with OFF where nobody asked, which makes nothing and reads
no clock:

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


#: Who calls whom; "child" is a container's process before its program, "container" the program.
ROOMS = ("client", "engine", "shim", "child", "container")


class Step(NamedTuple):
    """Something that was done, and by whom: one of ROOMS."""

    name: str
    room: str
    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.begin_ns) / 1e9

    def contains(self, other: Step) -> bool:
        """Whether *other* lies within it, the same time included."""
        return self.begin_ns <= other.begin_ns and other.end_ns <= self.end_ns


_step = tuple.__new__  # a third of what Step() costs


class Recorder:
    """Takes down the steps of one room, for one start."""

    __slots__ = ("room", "steps")

    def __init__(self, room: str) -> None:
        self.room = room
        self.steps: list[Step] = []

    def now(self) -> int:
        """Return when a step begins."""
        return time.monotonic_ns()

    def note(self, name: str, begin_ns: int) -> int:
        """Take down a step that ends now; return now, for the next begins then."""
        end_ns = time.monotonic_ns()
        self.steps.append(_step(Step, (name, self.room, begin_ns, end_ns)))
        return end_ns

    def add(self, steps: Iterable[Step]) -> None:
        """Take in what others have taken down."""
        self.steps.extend(steps)


class _Off(Recorder):
    """Takes nothing down."""

    __slots__ = ()

    def now(self) -> int:
        return 0

    def note(self, name: str, begin_ns: int) -> int:
        return 0

    def add(self, steps: Iterable[Step]) -> None:
        return


#: For who was not asked.
OFF: Recorder = _Off("")


def steps_of(told: Iterable[Sequence[Any]]) -> list[Step]:
    """Return the steps that another process has told, as JSON gave them."""
    return [Step(*step) for step in told]


class Place(NamedTuple):
    """Where a step is among others."""

    step: Step
    depth: int  # how many steps it is part of
    outer: int  # the number, in order of their begin, of the step that it is part of; or -1


def nested(steps: Iterable[Step]) -> Iterator[Place]:
    """Yield the steps in order of their begin, each with its place.

    Rooms work at the same time, so that what contains a step need not have called for it:
    it is part of the innermost of its own room, else of the nearest that calls it.
    """
    places: list[Place] = []
    open_: list[int] = []  # numbers of those that contain the next, outermost first
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
