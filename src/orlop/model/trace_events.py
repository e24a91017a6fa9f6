"""Write steps as a trace file, for Perfetto and chrome://tracing.

The "Trace Event Format", as a JSON object. Each room is a process in the trace. Events of one
thread must be nested or disjoint, so overlapping steps get further threads.
"""

from __future__ import annotations

from orlop.model.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from orlop.model.timeline import Step


def trace(steps: Sequence[Step]) -> dict[str, Any]:
    """Return the trace of *steps*; its time begins with the first of them."""
    rooms: dict[str, int] = {}
    ordered = sorted(steps, key=lambda step: (step.begin_ns, -step.end_ns))
    for step in ordered:
        rooms.setdefault(step.room, len(rooms) + 1)
    origin_ns = ordered[0].begin_ns if ordered else 0
    events = [_name(pid, room) for room, pid in rooms.items()]
    for room, pid in rooms.items():
        for thread, step in _on_threads(step for step in ordered if step.room == room):
            events.append(_event(step, pid, thread, origin_ns))
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _name(pid: int, room: str) -> dict[str, Any]:
    return {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": room}}


def _event(step: Step, pid: int, thread: int, origin_ns: int) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": step.name,
        "cat": step.room,
        "pid": pid,
        "tid": thread,
        "ts": (step.begin_ns - origin_ns) / 1000,  # microseconds
        "dur": (step.end_ns - step.begin_ns) / 1000,
    }


def _on_threads(steps: Iterable[Step]) -> Iterable[tuple[int, Step]]:
    """Yield the steps, by their begin, each with the first thread that it fits into."""
    threads: list[list[Step]] = []  # the open steps of each, outermost first
    for step in steps:
        number = next((n for n, open_ in enumerate(threads) if _fits(step, open_)), len(threads))
        if number == len(threads):
            threads.append([])
        threads[number].append(step)
        yield number + 1, step


def _fits(step: Step, open_: list[Step]) -> bool:
    """Whether *step* lies within the open steps, after removing those that have ended."""
    while open_ and open_[-1].end_ns <= step.begin_ns:
        open_.pop()
    return not open_ or open_[-1].contains(step)
