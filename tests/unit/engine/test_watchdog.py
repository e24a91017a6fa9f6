"""Callbacks that hold up the event loop are told of, with their stacks."""

import asyncio
import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable

import pytest

from orlop.engine.telemetry import watchdog as room
from orlop.engine.telemetry.watchdog import Watchdog


def watched(work: Callable[[Watchdog], object]) -> Watchdog:
    """Let *work* be a callback of a watched loop, at the end of an idle time."""
    watchdog = Watchdog()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_later(0.01, lambda: done.set_result(work(watchdog)))
        await done

    with asyncio.Runner(loop_factory=watchdog.new_loop) as runner, watchdog.watching():
        runner.run(main())
    return watchdog


def hold_up(watchdog: Watchdog) -> None:
    """Hold up the loop until that was seen."""
    deadline = time.monotonic() + 20
    while not watchdog.stalls and time.monotonic() < deadline:
        time.sleep(0.001)


def hold_the_interpreter(_: Watchdog) -> None:
    re.match(r"(a+)+b", "a" * 25)  # takes a second or so, and lets no other thread run


def test_callback_that_holds_up_the_loop_is_told_of_while_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert watched(hold_up).stalls == {"other": 1}  # a test's function is none of ours
    (record,) = caplog.records
    assert "in hold_up" in record.getMessage()
    assert "time.sleep(0.001)" in record.getMessage()
    assert vars(record)["ms"] >= 100


def test_callback_that_keeps_other_threads_from_running_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        watched(hold_the_interpreter)
    assert "hold_the_interpreter" in caplog.text


def test_place_of_a_stall_is_the_innermost_function_of_orlop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "_PACKAGE", __name__)
    assert watched(hold_up).stalls == {f"{__name__}.hold_up": 1}


def test_many_short_callbacks_are_no_stall() -> None:
    watchdog = Watchdog()

    async def main() -> None:
        for _ in range(200):
            hashlib.sha256(b"x" * 1_000_000).digest()  # about a millisecond
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=watchdog.new_loop) as runner, watchdog.watching():
        runner.run(main())
    assert watchdog.stalls == {}


def test_thread_that_sleeps_is_woken_by_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_IDLE_LOOKS", 1)
    watchdog = Watchdog()

    async def main() -> None:
        await asyncio.sleep(0.3)
        hold_up(watchdog)

    with asyncio.Runner(loop_factory=watchdog.new_loop) as runner, watchdog.watching():
        runner.run(main())
    assert watchdog.stalls == {"other": 1}
    assert "loop-watch" not in [thread.name for thread in threading.enumerate()]
