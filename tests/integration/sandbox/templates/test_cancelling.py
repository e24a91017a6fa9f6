"""What a run or a start that was cancelled costs: nobody but itself."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest

import orlop
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until

STARTER = """
import signal, sys, orlop
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored from birth
try:
    orlop.Template(engine=sys.argv[1], setup="while True: pass").start()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_run_that_is_cancelled_before_it_has_begun_is_not_waited_for(
    engine: EngineProcess,
) -> None:
    async def cancel() -> None:
        async with orlop.AsyncTemplate(engine=engine.url) as template:
            for steps in [*range(6), *range(6)]:
                run = asyncio.create_task(template.run("import time; time.sleep(600)", timeout=100))
                for _ in range(steps):
                    await asyncio.sleep(0)
                run.cancel()
                begun_s = time.monotonic()
                with pytest.raises(asyncio.CancelledError):
                    await run
                assert time.monotonic() - begun_s < 80

    asyncio.run(cancel())


class Unwanted(str):
    """Code whose run is cancelled while it is being sent."""

    cancel: Callable[[], object]

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        self.cancel()
        time.sleep(0.5)  # for the cancellation to arrive
        return super().encode(encoding, errors)


def test_run_that_is_cancelled_while_it_is_sent_costs_others_nothing(
    engine: EngineProcess,
) -> None:
    async def work() -> None:
        async with orlop.AsyncTemplate(engine=engine.url) as template:
            before = template.id
            other = asyncio.create_task(template.run("print(input())", input=b"well\n"))
            waiting = asyncio.create_task(template.run("import time; time.sleep(4); print(1)"))
            for _ in range(3):
                code = Unwanted("import time; time.sleep(600)")
                unwanted = asyncio.create_task(template.run(code, timeout=100))
                loop = asyncio.get_running_loop()
                code.cancel = partial(loop.call_soon_threadsafe, unwanted.cancel)
                with pytest.raises(asyncio.CancelledError):
                    await unwanted
            assert (await other).stdout == b"well\n"
            assert (await waiting).stdout == b"1\n"
            assert (await template.run("print(2)")).stdout == b"2\n"
            assert template.id == before

    asyncio.run(work())


def test_start_that_is_cancelled_at_any_moment_has_been_undone(engine: EngineProcess) -> None:
    async def cancel(steps: int, after_s: float) -> None:
        slow = orlop.AsyncTemplate(
            engine=engine.url, setup="import time; time.sleep(600)", setup_timeout=100
        )
        starting = asyncio.create_task(slow.start())
        for _ in range(steps):
            await asyncio.sleep(after_s)
        starting.cancel()
        begun_s = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert time.monotonic() - begun_s < 80
        assert ids(engine) == set()

    for steps, after_s in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (1, 0.02), (1, 0.3)]:
        asyncio.run(cancel(steps, after_s))


def test_start_can_be_interrupted_from_the_keyboard(engine: EngineProcess) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, engine.url], stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: len(ids(engine)) == 1, "it does not start")
        starter.send_signal(signal.SIGINT)
        assert starter.communicate(timeout=60)[0] == "interrupted\n"
        wait_until(lambda: ids(engine) == set(), "its container is left")
    finally:
        starter.kill()
        starter.communicate()
