"""When sandboxes end: with their block, their owner, their engine's knowledge of either."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from orlop.errors import NotFoundError, WrongStateError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until

OWNER = """
import os, sys, time, orlop
box = orlop.Sandbox(engine=sys.argv[1], keep=sys.argv[2] == "keep").start()
if sys.argv[2] == "fork" and os.fork() == 0:
    time.sleep(600)  # holds the connection open
print(box.id, os.getpid(), flush=True)
time.sleep(600)
"""


class Program:
    """One that has a sandbox, and processes that it started."""

    def __init__(self, engine: EngineProcess, how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, engine.url, how],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.box = self.process.stdout.readline().split()[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def programs(engine: EngineProcess) -> Iterator[list[Program]]:
    made: list[Program] = []
    yield made
    for program in made:
        program.close()
    with Client(settings(host=engine.url)) as client:
        for left in ids(engine):
            with contextlib.suppress(NotFoundError):  # it has just gone with its program
                client.containers.remove(left, force=True)


def begin(programs: list[Program], engine: EngineProcess, how: str = "") -> Program:
    programs.append(Program(engine, how))
    assert programs[-1].box in ids(engine)
    return programs[-1]


def gone(engine: EngineProcess, box: str) -> None:
    wait_until(lambda: box not in ids(engine), f"sandbox {box} is still there")


def test_sandbox_is_gone_after_its_block(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url) as box:
        assert box.id in ids(engine)
    assert ids(engine) == set()


def test_sandbox_is_told_apart_before_its_start_and_after_its_end(engine: EngineProcess) -> None:
    box = orlop.Sandbox(engine=engine.url)
    with pytest.raises(WrongStateError, match="the sandbox is not started"):
        box.run(["true"])
    with box:
        pass
    with pytest.raises(WrongStateError, match="the sandbox has been closed"):
        box.run(["true"])
    with orlop.Batch(count=1, engine=engine.url) as boxes:
        pass
    with pytest.raises(WrongStateError, match="the sandbox has been closed"):
        boxes[0].run(["true"])
    with box:  # again
        assert box.run(["true"]).exit_code == 0


def test_every_verb_says_that_the_sandbox_has_ended(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, command=["sleep", "0"]) as box:
        gone(engine, box.id)
        verbs: list[Callable[[], object]] = [
            lambda: box.run(["true"]),
            lambda: box.files.read("/etc/hostname"),
            lambda: box.files.write("/tmp/x", b""),
            box.pause,
            box.resume,
            box.usage,
            box.fork,
            lambda: box.snapshot("any"),
            lambda: box.address(80),
        ]
        for verb in verbs:
            with pytest.raises(NotFoundError, match=f"^no sandbox {box.id[:12]}: it has ended$"):
                verb()


def test_exception_inside_the_block_removes_it(engine: EngineProcess) -> None:
    def fail() -> None:
        with orlop.Sandbox(engine=engine.url):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert ids(engine) == set()


def test_sandbox_that_cannot_start_leaves_nothing(engine: EngineProcess) -> None:
    with pytest.raises(orlop.errors.OrlopError, match="no-such-program"):
        orlop.Sandbox(engine=engine.url, command=["no-such-program"]).start()
    assert ids(engine) == set()


@pytest.mark.parametrize("name", [None, "usual"])  # with a name it is started in the usual way
def test_paused_sandbox_is_gone_after_its_block(engine: EngineProcess, name: str | None) -> None:
    with orlop.Sandbox(engine=engine.url, name=name) as box:
        box.pause()
    assert ids(engine) == set()


def test_sandbox_that_is_dropped_goes(engine: EngineProcess) -> None:
    box = orlop.Sandbox(engine=engine.url).start()
    identifier = box.id
    del box
    gc.collect()
    gone(engine, identifier)


def test_sandbox_whose_first_process_ends_is_gone(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, command=["sleep", "0.1"]) as box:
        gone(engine, box.id)
        with pytest.raises(NotFoundError):
            box.run(["true"])


def test_sandbox_goes_with_its_killed_owner(engine: EngineProcess, programs: list[Program]) -> None:
    program = begin(programs, engine)
    program.kill()
    gone(engine, program.box)


def test_child_that_inherited_the_connection_keeps_nothing(
    engine: EngineProcess, programs: list[Program]
) -> None:
    program = begin(programs, engine, "fork")
    program.kill()
    gone(engine, program.box)


def test_kept_sandbox_outlives_its_owner(engine: EngineProcess, programs: list[Program]) -> None:
    kept, other = begin(programs, engine, "keep"), begin(programs, engine)
    kept.kill()
    other.kill()
    gone(engine, other.box)
    assert kept.box in ids(engine)


def test_engine_that_comes_back_ends_what_lost_its_owner(
    engine: EngineProcess, programs: list[Program]
) -> None:
    dead, alive, later = (begin(programs, engine) for _ in range(3))
    engine.stop(signal.SIGKILL)
    dead.kill()
    engine.start()
    gone(engine, dead.box)
    assert {alive.box, later.box} <= ids(engine)
    later.kill()
    gone(engine, later.box)
    assert alive.box in ids(engine)


def test_sandbox_works_on_with_an_engine_that_came_back(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url) as box:
        engine.stop(signal.SIGKILL)
        engine.start()
        assert box.run(["echo", "on"]).stdout == b"on\n"
    assert ids(engine) == set()


def test_cancelled_run_has_been_killed(engine: EngineProcess) -> None:
    async def cancel() -> bytes:
        async with orlop.AsyncSandbox(engine=engine.url) as box:
            running = asyncio.create_task(box.run(["sh", "-c", "setsid sleep 600 & sleep 600"]))
            async with asyncio.timeout(60):
                while b"sleep 600" not in (await box.run(["ps", "-eo", "args"])).stdout:
                    await asyncio.sleep(0.02)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return (await box.run(["ps", "-eo", "args"])).stdout

    assert b"sleep 600" not in asyncio.run(cancel())


def test_cancelled_block_removes_its_sandbox(engine: EngineProcess) -> None:
    async def hold() -> None:
        async with orlop.AsyncSandbox(engine=engine.url) as box:
            await box.run(["sleep", "600"])

    async def cancel() -> None:
        task = asyncio.create_task(hold())
        async with asyncio.timeout(60):
            while not ids(engine):
                await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert ids(engine) == set()


@pytest.mark.parametrize("after_s", [0, 0.005, 0.02])
def test_cancelled_start_leaves_nothing(engine: EngineProcess, after_s: float) -> None:
    async def cancel() -> None:
        box = orlop.AsyncSandbox(engine=engine.url)
        task = asyncio.create_task(box.start())
        await asyncio.sleep(after_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
            await box.close()  # it was quicker

    asyncio.run(cancel())
    assert ids(engine) == set()


def test_client_that_goes_in_the_middle_of_an_opening_leaves_nothing(
    engine: EngineProcess,
) -> None:
    box = orlop.Sandbox(engine=engine.url)
    made, removed = actions(engine, "create"), actions(engine, "destroy")
    with Client(settings(host=engine.url)) as client:
        connection = client.begin_upgrade("/sandboxes", body=box.body())
        wait_until(lambda: actions(engine, "create") > made, "it was not made")
        connection.close()
    wait_until(lambda: actions(engine, "destroy") > removed, "it was not removed")
    assert ids(engine) == set()


def actions(engine: EngineProcess, action: str) -> int:
    return engine.log().count(f"container event action={action} ")


def test_image_that_nobody_has_is_an_error(engine: EngineProcess, tmp_path: Path) -> None:
    with pytest.raises(orlop.errors.OrlopError, match=r"127\.0\.0\.1:1"):
        orlop.Sandbox(engine=engine.url, image="127.0.0.1:1/none:1").start()
    assert ids(engine) == set()
