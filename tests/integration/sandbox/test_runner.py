"""Runners, a sandbox for each command; and batches, many for one request."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest

import orlop
from orlop.errors import InvalidArgumentError, WrongStateError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until

LONG_S = 60.0

#: Starts a command that does not end, and says so.
OWNER = """
import sys, orlop
with orlop.Runner(engine=sys.argv[1]).exec(["sh", "-c", "echo begun; sleep 1000"]) as process:
    for stream, data in process:
        print(data.decode(), end="", flush=True)
"""


@pytest.fixture
def runner(engine: EngineProcess) -> orlop.Runner:
    return orlop.Runner(engine=engine.url, memory="64m", pids=50, environment={"A": "b"})


@pytest.fixture(autouse=True)
def nothing_stays(engine: EngineProcess) -> Iterator[None]:
    yield
    wait_until(lambda: ids(engine) == set(), "sandboxes are left")


def test_command_has_a_sandbox_of_its_own(runner: orlop.Runner) -> None:
    first = runner.run(["sh", "-c", "echo $A $B > /root/x; cat /root/x -"], input=b"said\n")
    assert (first.exit_code, first.stdout, first.stderr) == (0, b"b\nsaid\n", b"")
    second = runner.run(["cat", "/root/x"], environment={"B": "c"})
    assert second.exit_code == 1
    assert b"/root/x" in second.stderr
    assert runner.run(["pwd"], workdir="/usr/lib").stdout == b"/usr/lib\n"
    assert runner.run(["sh", "-c", "exit 7"]).exit_code == 7
    assert runner.run(["sh", "-c", "sh -c 'kill -9 $$'"]).exit_code == 137


def test_command_may_be_another_users(runner: orlop.Runner) -> None:
    for user, told in (("", b"0\n"), ("65534", b"65534\n"), ("nobody", b"65534\n")):
        assert runner.run(["id", "-u"], user=user).stdout == told


def test_all_it_started_ends_with_it(runner: orlop.Runner, engine: EngineProcess) -> None:
    result = runner.run(["sh", "-c", "setsid sleep 1000 & echo over"], timeout=LONG_S)
    assert (result.exit_code, result.stdout, result.timed_out) == (0, b"over\n", False)
    late = runner.run(["sh", "-c", "setsid sleep 1000 & echo begun; sleep 1000"], timeout=0.5)
    assert (late.exit_code, late.stdout, late.timed_out) == (137, b"begun\n", True)
    wait_until(lambda: ids(engine) == set(), "it is left")


def test_output_has_a_limit(runner: orlop.Runner) -> None:
    result = runner.run(["sh", "-c", "yes | head -c 3000000; echo done >&2"], output_limit=1000)
    assert (len(result.stdout), result.stdout_truncated) == (1000, True)
    assert result.stderr == b"done\n"
    assert result.usage.peak_memory_bytes > 0


def test_output_comes_as_it_is_written(runner: orlop.Runner) -> None:
    with runner.exec(["cat"], input=None) as process:
        pieces = iter(process)
        for word in (b"one\n", b"two\n"):
            process.send(word)
            assert next(pieces) == ("stdout", word)
        process.send(b"", end=True)
        assert list(pieces) == []
        assert process.exit_code == 0


def test_command_that_is_not_there_says_so(runner: orlop.Runner) -> None:
    result = runner.run(["no-such-program"])
    assert result.exit_code == 127
    assert b"no-such-program" in result.stderr


def test_what_stays_has_no_runner(engine: EngineProcess) -> None:
    with pytest.raises(WrongStateError, match="no name and are not kept"):
        orlop.Runner(engine=engine.url, name="it").run(["true"])


def test_what_is_not_quick_runs_all_the_same(engine: EngineProcess) -> None:
    usual = orlop.Runner(engine=engine.url, network="host")
    assert usual.run(["sh", "-c", "echo here; exit 3"])[:2] == (3, b"here\n")


def test_many_at_once_each_have_their_own(engine: EngineProcess) -> None:
    async def numbers() -> list[int]:
        runner = orlop.AsyncRunner(engine=engine.url, pids=20)
        results = await asyncio.gather(*(runner.run(["echo", str(n)]) for n in range(30)))
        return [int(result.stdout) for result in results]

    assert asyncio.run(numbers()) == [*range(30)]


def test_cancelled_run_is_ended(engine: EngineProcess) -> None:
    async def cancelled() -> None:
        runner = orlop.AsyncRunner(engine=engine.url)
        run = asyncio.create_task(runner.run(["sleep", "1000"]))
        while not ids(engine):
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cancelled())


def test_killed_program_takes_its_commands_along(engine: EngineProcess) -> None:
    words = [sys.executable, "-c", OWNER, engine.url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "begun\n"
        finally:
            program.kill()


def test_batch_is_there_together(engine: EngineProcess) -> None:
    with orlop.Batch(count=12, engine=engine.url, memory="64m") as boxes:
        assert len({box.id for box in boxes}) == 12
        assert {box.id for box in boxes} == ids(engine)
        names = {box.run(["hostname"]).stdout for box in boxes}
        assert len(names) == 12
        boxes[3].close()
        assert len(ids(engine)) == 11
        assert boxes[4].run(["true"]).exit_code == 0
    assert ids(engine) == set()


def test_batch_is_there_whole_or_not_at_all(engine: EngineProcess) -> None:
    for count in (0, 1025):
        with pytest.raises(InvalidArgumentError, match="number of sandboxes"):
            orlop.Batch(count=count, engine=engine.url)
    with pytest.raises(InvalidArgumentError, match="no name"):
        orlop.Batch(count=2, engine=engine.url, name="it")
    usual = orlop.Batch(count=2, engine=engine.url, network="host")
    with usual as boxes:
        assert {box.id for box in boxes} == ids(engine)


def test_batch_of_an_event_loop_is_the_same(engine: EngineProcess) -> None:
    async def names() -> set[bytes]:
        async with orlop.AsyncBatch(count=4, engine=engine.url, memory="64m") as boxes:
            assert {box.id for box in boxes} == ids(engine)
            results = await asyncio.gather(*(box.run(["hostname"]) for box in boxes))
            await boxes[0].close()
        return {result.stdout for result in results}

    assert len(asyncio.run(names())) == 4
    assert ids(engine) == set()
    with pytest.raises(InvalidArgumentError, match="no name"):
        orlop.AsyncBatch(engine=engine.url, name="it")


def test_cancelled_batch_is_ended(engine: EngineProcess) -> None:
    async def cancelled(batch: orlop.AsyncBatch, *, when_there: bool) -> None:
        starting = asyncio.create_task(batch.start())
        await asyncio.sleep(0)
        while when_there and not ids(engine):
            await asyncio.sleep(0.001)
        starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            return
        await batch.close()  # it was quicker

    for when_there in (False, True):
        batch = orlop.AsyncBatch(count=50, engine=engine.url, pids=20)
        asyncio.run(cancelled(batch, when_there=when_there))
        assert ids(engine) == set()
