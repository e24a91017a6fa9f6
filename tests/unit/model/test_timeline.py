"""Steps of a start: how they lie within each other, and as a trace."""

import json

from hypothesis import given
from hypothesis import strategies as st

from orlop.model.timeline import OFF, ROOMS, Recorder, Step, nested, steps_of
from orlop.model.trace_events import trace


def test_a_step_is_part_of_what_contains_it_and_was_called_by_no_later_room() -> None:
    start = Step("start", "engine", 0, 100)
    ask = Step("ask_shim", "engine", 10, 90)
    child = Step("child", "child", 20, 80)
    write = Step("write_pid", "shim", 25, 30)  # while the child is busy, and no part of it
    mount = Step("make_mounts", "child", 26, 29)
    apart = Step("remove", "engine", 100, 120)
    told = [mount, apart, write, child, start, ask]
    assert list(nested(told)) == [
        (start, 0, -1),
        (ask, 1, 0),
        (child, 2, 1),
        (write, 2, 1),
        (mount, 3, 2),
        (apart, 0, -1),
    ]


def test_steps_come_back_from_json_as_they_were() -> None:
    times = Recorder("shim")
    since = times.note("first", times.now())
    times.note("second", since)
    told = steps_of(json.loads(json.dumps(times.steps)))
    assert told == times.steps
    assert [(step.name, step.room) for step in told] == [("first", "shim"), ("second", "shim")]
    assert told[0].end_ns == told[1].begin_ns


def test_who_was_not_asked_takes_nothing_down() -> None:
    OFF.add([Step("other", "shim", 1, 2)])
    assert (OFF.now(), OFF.note("step", 5), OFF.steps) == (0, 0, [])


_STEPS = st.lists(
    st.builds(
        lambda name, room, begin, length: Step(name, room, begin, begin + length),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(ROOMS),
        st.integers(0, 10_000_000),
        st.integers(0, 10_000_000),
    )
)


@given(_STEPS)
def test_a_trace_has_every_step_and_on_no_thread_two_that_overlap(steps: list[Step]) -> None:
    events = [event for event in trace(steps)["traceEvents"] if event["ph"] == "X"]
    assert sorted(event["name"] for event in events) == sorted(step.name for step in steps)
    threads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in events:
        begin = round(event["ts"] * 1000)
        span = (begin, begin + round(event["dur"] * 1000))
        threads.setdefault((event["pid"], event["tid"]), []).append(span)
    for spans in threads.values():
        for at, (begin, end) in enumerate(spans):
            for later_begin, later_end in spans[at + 1 :]:
                assert later_begin >= end or (begin <= later_begin and later_end <= end)
