"""Pools: warm sandboxes, whatever befalls them, and none left over."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from orlop.errors import InvalidArgumentError, UnavailableError, WrongStateError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until

LONG_S = 60

OWNER = """
import sys, time, orlop
pool = orlop.Pool(engine=sys.argv[1], size=3).start()
pool.fill()
print(pool.ready, flush=True)
time.sleep(600)
"""


@pytest.fixture
def pool(engine: EngineProcess) -> Iterator[orlop.Pool]:
    with orlop.Pool(engine=engine.url, size=3, environment={"A": "b"}) as pool:
        yield pool


def remove(engine: EngineProcess, boxes: set[str]) -> None:
    with Client(settings(host=engine.url)) as client:
        for box in boxes:
            client.containers.remove(box, force=True)


def test_pool_hands_out_what_is_ready_and_refills(engine: EngineProcess, pool: orlop.Pool) -> None:
    pool.fill(timeout=LONG_S)
    warm = ids(engine)
    assert len(warm) == pool.ready == 3
    with pool.take() as box, pool.take() as other:
        assert {box.id, other.id} <= warm
        assert box.run(["sh", "-c", "echo $A"]).stdout == b"b\n"
        pool.fill(timeout=LONG_S)
        assert len(ids(engine)) == 5
    assert pool.stats == (3, 0, 2, 0, 0, 0)
    kept = pool.take()
    pool.close()
    assert ids(engine) == {kept.id}
    kept.close()
    pool.close()
    with pytest.raises(WrongStateError, match="the pool has been closed"):
        pool.take()


def test_taken_sandbox_that_is_dropped_goes(engine: EngineProcess) -> None:
    with orlop.Pool(engine=engine.url, size=2, parallel=2) as pool:
        pool.fill(timeout=LONG_S)
        for count in (2, 1):
            taken = [pool.take() for _ in range(count)]
            dropped = {box.id for box in taken}
            pool.fill(timeout=LONG_S)  # its threads have nothing to do any more
            taken.clear()
            wait_until(lambda: not dropped & ids(engine), "it is still there")  # noqa: B023


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_pool_that_is_dropped_goes_without_what_was_taken(engine: EngineProcess, kind: str) -> None:
    if kind == "blocking":
        box = orlop.Pool(engine=engine.url, size=2).start().take(timeout=LONG_S)
        taken, close = box.id, box.close
    else:
        late = asyncio.run(taken_of_a_pool(engine))
        taken, close = late.id, lambda: asyncio.run(late.close())
    wait_until(lambda: ids(engine) == {taken}, "it is still there")
    wait_until(lambda: "orlop-pool" not in threads(), "its threads are still there")
    close()
    assert ids(engine) == set()


async def taken_of_a_pool(engine: EngineProcess) -> orlop.AsyncSandbox:
    pool = await orlop.AsyncPool(engine=engine.url, size=2).start()
    return await pool.take(timeout=LONG_S)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_many_takers_get_one_each(engine: EngineProcess, pool: orlop.Pool) -> None:
    taken: list[orlop.Sandbox] = []
    threads = [
        threading.Thread(target=lambda: taken.append(pool.take(timeout=LONG_S))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({box.id for box in taken}) == 8
    for box in taken:
        box.close()
    pool.close()
    assert ids(engine) == set()


def test_sandboxes_that_die_while_they_are_warm_are_replaced(
    engine: EngineProcess, pool: orlop.Pool
) -> None:
    pool.fill(timeout=LONG_S)
    dead = ids(engine)
    remove(engine, dead)
    wait_until(lambda: pool.stats.died == 3, "nobody has seen them die")
    pool.fill(timeout=LONG_S)
    with pool.take() as box:
        assert box.id not in dead
        assert box.run(["true"]).exit_code == 0
    pool.close()
    assert ids(engine) == set()


def test_pool_works_on_with_an_engine_that_came_back(
    engine: EngineProcess, pool: orlop.Pool
) -> None:
    pool.fill(timeout=LONG_S)
    engine.stop(signal.SIGKILL)
    with pytest.raises(UnavailableError, match="no sandbox"):
        pool.take(timeout=LONG_S)
    engine.start()
    wait_until(lambda: pool.ready == 3, "it does not fill")
    with pool.take() as box:
        assert box.run(["true"]).exit_code == 0
    wait_until(lambda: len(ids(engine)) <= 3, "those of before are left")
    pool.close()
    assert ids(engine) == set()


def test_pool_goes_with_its_killed_program(engine: EngineProcess) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, engine.url], stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "3\n"
            assert len(ids(engine)) == 3
        finally:
            program.kill()
    wait_until(lambda: ids(engine) == set(), "they are left")


def test_takers_of_what_cannot_be_started_are_told(engine: EngineProcess) -> None:
    with (
        orlop.Pool(engine=engine.url, command=["no-such-program"]) as pool,
        pytest.raises(UnavailableError, match="no-such-program"),
    ):
        pool.take(timeout=LONG_S)
    assert pool.stats.failed > 0
    assert ids(engine) == set()


def test_wait_for_a_sandbox_has_an_end(engine: EngineProcess) -> None:
    assert engine.process is not None
    with orlop.Pool(engine=engine.url, size=1) as pool:
        pool.fill(timeout=LONG_S)
        engine.process.send_signal(signal.SIGSTOP)
        try:
            taken = pool.take()
            with pytest.raises(UnavailableError, match="in time"):
                pool.take(timeout=0.2)
        finally:
            engine.process.send_signal(signal.SIGCONT)
        taken.close()
    assert ids(engine) == set()


@pytest.mark.parametrize("after_s", [0, 0.005, 0.02])
def test_cancelled_take_loses_no_sandbox(engine: EngineProcess, after_s: float) -> None:
    async def work() -> None:
        async with orlop.AsyncPool(engine=engine.url, size=1) as pool:
            taking = [asyncio.create_task(pool.take()) for _ in range(3)]
            await asyncio.sleep(after_s)
            for task in taking[:2]:
                task.cancel()
            async with await taking[2] as box:
                assert (await box.run(["echo", "x"])).stdout == b"x\n"
            for task in taking[:2]:
                with contextlib.suppress(asyncio.CancelledError):
                    await (await task).close()
        assert ids(engine) == set()

    asyncio.run(work())


def test_pool_that_is_closed_at_once_leaves_nothing(engine: EngineProcess) -> None:
    with orlop.Pool(engine=engine.url, size=4, parallel=4):
        pass
    assert ids(engine) == set()


def test_nonsense_is_refused() -> None:
    for options in ({"size": 0}, {"parallel": 0}, {"name": "one"}, {"keep": True}, {"image": ""}):
        with pytest.raises(InvalidArgumentError):
            orlop.Pool(**options)
