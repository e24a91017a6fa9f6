"""Timelines of sandboxes and of commands, from the request to the answer, by either face."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import orlop
from orlop.errors import NotFoundError
from tests.integration.engines import EngineProcess

ROOMS = {"client", "engine", "shim", "child", "container"}
SLEPT_S = 0.2
COMMAND = ("sh", "-c", f"sleep {SLEPT_S}; echo out")

Run = Callable[..., orlop.Result]


def _run(command: Sequence[str], **options: Any) -> orlop.Result:
    return orlop.Runner(**options).run(command)


def _run_async(command: Sequence[str], **options: Any) -> orlop.Result:
    return asyncio.run(orlop.AsyncRunner(**options).run(command))


def _in_sandbox(command: Sequence[str], **options: Any) -> orlop.Result:
    with orlop.Sandbox(**options) as box:
        return box.run(command)


def _in_sandbox_async(command: Sequence[str], **options: Any) -> orlop.Result:
    async def run() -> orlop.Result:
        async with orlop.AsyncSandbox(**options) as box:
            return await box.run(command)

    return asyncio.run(run())


@pytest.mark.parametrize("network", ["none", "bridge", "host"])  # the last is the usual way
@pytest.mark.parametrize("run", [_run, _run_async, _in_sandbox, _in_sandbox_async])
def test_a_command_is_told_from_the_request_to_the_answer(
    run: Run, network: str, engine: EngineProcess
) -> None:
    result = run(COMMAND, engine=engine.url, network=network, timed=True)
    assert result.stdout == b"out\n"
    timeline = result.timeline
    assert {step.room for step in timeline} == ROOMS
    request, program, answer = (only(timeline, name) for name in ("request", "program", "answer"))
    for step in timeline:
        assert only(timeline, "run").contains(step) or network == "host", step
        if step.room == "child":
            assert step.end_ns <= program.begin_ns, step
    assert request.begin_ns <= min(s.begin_ns for s in timeline if s.room == "engine") or (
        network == "host"
    )
    assert program.end_ns - request.begin_ns >= SLEPT_S / 2 * 1e9  # it may be seen to begin late
    assert program.end_ns <= answer.begin_ns <= answer.end_ns


def test_a_command_that_is_not_timed_has_no_steps(engine: EngineProcess) -> None:
    result = orlop.Runner(engine=engine.url).run(["true"])
    assert list(result.timeline) == []
    assert str(result.timeline) == ""
    with orlop.Sandbox(engine=engine.url) as box:
        assert list(box.run(["true"]).timeline) == []
        with pytest.raises(NotFoundError, match=r"no timeline of the sandbox \(timed=True\)"):
            box.timeline()


def test_a_command_that_ends_at_once_is_told_whole(engine: EngineProcess) -> None:
    """An engine that has much to do hears of its end together with its start."""
    runner = orlop.Runner(engine=engine.url, timed=True)
    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(lambda _: runner.run(["true"]), range(100)))
    for timeline in (result.timeline for result in results):
        assert {step.room for step in timeline} == ROOMS
        for name in ("spawn", "program", "record_exit", "answer"):
            assert only(timeline, name).seconds >= 0


def test_a_timeline_is_drawn_and_kept_as_a_trace(engine: EngineProcess, tmp_path: Path) -> None:
    timeline = orlop.Runner(engine=engine.url, timed=True).run(COMMAND).timeline
    heading, *lines = str(timeline).splitlines()
    assert heading.split() == ["begin", "took"]
    drawn = [line.split()[3:5] for line in lines if " ms " in line]
    assert sorted(drawn) == sorted([step.room, step.name.split()[0]] for step in timeline)
    timeline.save(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace == timeline.trace()
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert sorted(event["name"] for event in spans) == sorted(step.name for step in timeline)


@pytest.mark.parametrize("network", ["none", "host"])
def test_a_sandbox_is_told_from_the_request_to_its_end(engine: EngineProcess, network: str) -> None:
    with orlop.Sandbox(engine=engine.url, network=network, timed=True) as box:
        running = box.timeline()
        before = time.monotonic_ns()
    assert {step.room for step in running} == ROOMS
    start, program = only(running, "start", "client"), only(running, "program")
    assert start.begin_ns == running[0].begin_ns
    begun = [step for step in running if step.room in ("engine", "shim", "child")]
    assert all(start.contains(step) for step in begun)
    assert max(s.end_ns for s in running if s.room == "child") <= program.begin_ns
    assert program.end_ns <= before  # and it runs yet
    over = box.timeline()
    assert only(over, "program").end_ns >= before
    assert only(over, "record_exit").end_ns <= only(over, "close").end_ns


def test_forks_and_batches_and_pools_have_timelines_too(engine: EngineProcess) -> None:
    options: dict[str, Any] = {"engine": engine.url, "timed": True}
    with orlop.Sandbox(**options) as box:
        (fork,) = box.fork(1)
        assert fork.run(["true"]).timeline
        assert only(fork.timeline(), "fork").begin_ns == fork.timeline()[0].begin_ns
    with orlop.Batch(count=2, **options) as boxes:
        assert [only(one.timeline(), "start", "client").seconds > 0 for one in boxes] == [True] * 2
    with orlop.Pool(size=1, **options) as pool, pool.take() as taken:
        assert {step.room for step in taken.timeline()} == ROOMS

    async def asked() -> orlop.Timeline:
        async with orlop.AsyncSandbox(**options) as box:
            return await box.timeline()

    assert {step.room for step in asyncio.run(asked())} == ROOMS


def only(timeline: orlop.Timeline, name: str, room: str = "") -> orlop.Step:
    """Return the one step of that name."""
    (found,) = (s for s in timeline if s.name == name and room in ("", s.room))
    return found
