"""The engine and the shim are killed at any moment; what was true stays true."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.errors import OrlopError
from orlop.model.container import RestartPolicy, Status
from tests.integration.engine.harness import (
    end_shim,
    leftovers,
    opened,
    output,
    settings,
    shell,
    until,
)
from tests.integration.engines import processes_of


def _as_killed_engine(folder: Path, work: str) -> int:
    """Run an engine in a child that kills itself with SIGKILL when *work* says; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(_CHILDREN[work](folder))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return pid


async def _leave_running(folder: Path) -> None:
    async with Engine.open(settings(folder)) as engine:
        created = await engine.containers.create(
            shell("echo before; sleep 1; echo after; exit 7"), name="box"
        )
        await engine.containers.start(created.id)
        await until(lambda: engine.containers.get("box").running)
        os.kill(os.getpid(), signal.SIGKILL)


async def _leave_unrecorded(folder: Path) -> None:
    """Die between the shim's answer and the record of the start."""
    async with Engine.open(settings(folder)) as engine:
        created = await engine.containers.create(shell("exec sleep 60"), name="box")
        engine._lifecycle.started = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        await engine.containers.start(created.id)


async def _leave_unseen_exit(folder: Path) -> None:
    """Die when the exit is told, before it is recorded."""
    async with Engine.open(settings(folder)) as engine:
        created = await engine.containers.create(shell("exit 7"), name="box")
        engine._lifecycle.ended = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment]
        await engine.containers.start(created.id)
        await asyncio.sleep(10)


async def _leave_half_removed(folder: Path) -> None:
    async with Engine.open(settings(folder)) as engine:
        created = await engine.containers.create(shell("true"), name="box")
        engine._context.snapshots.remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        await engine.containers.remove(created.id)


async def _leave_restarting(folder: Path) -> None:
    async with Engine.open(settings(folder)) as engine:
        policy = RestartPolicy(name="on-failure", maximum_retry_count=3)
        created = await engine.containers.create(
            shell("echo x; exit 1", restart=policy), name="box"
        )
        await engine.containers.start(created.id)
        await until(lambda: engine.containers.get("box").status == Status.RESTARTING)
        os.kill(os.getpid(), signal.SIGKILL)


async def _leave_asleep(folder: Path) -> None:
    async with Engine.open(settings(folder)) as engine:
        created = await engine.containers.create(shell("exec sleep 60"), name="box")
        await engine.containers.start(created.id)
        (folder / "pid").write_text(str(engine.containers.get("box").pid))
        os.kill(os.getpid(), signal.SIGKILL)


def _cut_power(folder: Path) -> None:
    """End all processes; take the run folder and the container's cgroups, as a reboot does."""
    pid = int((folder / "pid").read_text())
    inside = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    for process in [*processes_of(folder / "run"), pid]:
        os.kill(process, signal.SIGSTOP)  # else one of the shim's starts another
    for process in [*processes_of(folder / "run"), pid]:
        with contextlib.suppress(ProcessLookupError):  # it goes with the shim
            os.kill(process, signal.SIGKILL)
    while list(processes_of(folder / "run")) or os.path.exists(f"/proc/{pid}/root/tmp"):
        time.sleep(0.01)
    shutil.rmtree(folder / "run")
    for path in {line.split(":")[2] for line in inside} - {"/"}:
        for cgroup in [*Path("/sys/fs/cgroup").glob(f"*{path}"), Path(f"/sys/fs/cgroup{path}")]:
            while cgroup.is_dir():
                with contextlib.suppress(OSError):  # busy, as long as the process ends
                    cgroup.rmdir()


_CHILDREN = {
    "asleep": _leave_asleep,
    "running": _leave_running,
    "unrecorded": _leave_unrecorded,
    "unseen exit": _leave_unseen_exit,
    "half removed": _leave_half_removed,
    "restarting": _leave_restarting,
}


@pytest.mark.parametrize("pause_s", [0.0, 1.5])
def test_a_container_outlives_the_engine_and_its_exit_is_known(
    tmp_path: Path, pause_s: float
) -> None:
    """With the pause it ends while there is no engine at all."""
    _as_killed_engine(tmp_path, "running")
    time.sleep(pause_s)

    async def look() -> None:
        async with opened(tmp_path) as engine:
            await asyncio.wait_for(engine.containers.wait("box"), 20)
            container = engine.containers.get("box")
            assert container.status == Status.EXITED
            assert container.exit_code == 7
            assert (await output(engine, "box")).split() == ["before", "after"]

    asyncio.run(look())


def test_a_start_that_was_not_recorded_is_found_running(tmp_path: Path) -> None:
    _as_killed_engine(tmp_path, "unrecorded")

    async def look() -> None:
        async with opened(tmp_path) as engine:
            container = engine.containers.get("box")
            assert container.status == Status.RUNNING
            command = Path(f"/proc/{container.pid}/cmdline")
            await until(lambda: command.read_bytes() == b"sleep\x0060\x00")  # after the shell

    asyncio.run(look())


def test_an_exit_that_was_not_recorded_is_taken_in(tmp_path: Path) -> None:
    _as_killed_engine(tmp_path, "unseen exit")

    async def look() -> None:
        async with opened(tmp_path) as engine:
            container = engine.containers.get("box")
            assert container.status == Status.EXITED
            assert container.exit_code == 7
            await until(lambda: os.listdir(tmp_path / "run" / "exits") == [])

    asyncio.run(look())


def test_after_a_power_cut_a_container_has_not_ended_before_it_was_cut(tmp_path: Path) -> None:
    _as_killed_engine(tmp_path, "asleep")
    before_ns = time.time_ns()
    _cut_power(tmp_path)

    async def look() -> None:
        async with opened(tmp_path) as engine:
            container = engine.containers.get("box")
            assert (container.status, container.exit_code) == (Status.EXITED, 255)
            assert container.started_ns < before_ns < container.finished_ns <= time.time_ns()

    asyncio.run(look())


def test_a_removal_that_was_cut_is_finished(tmp_path: Path) -> None:
    _as_killed_engine(tmp_path, "half removed")

    async def look() -> None:
        async with opened(tmp_path) as engine:
            assert engine.containers.list(all=True) == []
            assert engine._context.snapshots.snapshots() == set()

    asyncio.run(look())


def test_a_restart_policy_goes_on_under_the_next_engine(tmp_path: Path) -> None:
    _as_killed_engine(tmp_path, "restarting")

    async def look() -> None:
        async with opened(tmp_path) as engine:
            await until(lambda: engine.containers.get("box").status == Status.EXITED)
            assert engine.containers.get("box").restart_count == 3
            assert (await output(engine, "box")).split() == ["x"] * 4

    asyncio.run(look())


def test_a_killed_shim_is_replaced_and_no_container_is_lost(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as engine:
            created = await engine.containers.create(shell("sleep 1; exit 7"))
            await engine.containers.start(created.id)
            shim = (await engine._context.shim.request({"op": "hello"}))["pid"]
            os.kill(shim, signal.SIGKILL)
            await asyncio.wait_for(engine.containers.wait(created.id), 20)
            assert engine.containers.get(created.id).exit_code == 7
            again = await engine.containers.create(shell("exit 2"))
            over = asyncio.ensure_future(engine.containers.wait(again.id, condition="next-exit"))
            await asyncio.sleep(0)
            await engine.containers.start(again.id)
            assert (await asyncio.wait_for(over, 20)).exit_code == 2

    asyncio.run(work())


def test_a_shim_killed_while_it_starts_leaves_a_container_that_can_start(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as engine:
            created = await engine.containers.create(shell("exec sleep 60"))
            shim = (await engine._context.shim.request({"op": "hello"}))["pid"]
            os.kill(shim, signal.SIGSTOP)
            starting = asyncio.ensure_future(engine.containers.start(created.id))
            await asyncio.sleep(0.1)
            os.kill(shim, signal.SIGKILL)
            with pytest.raises(OrlopError, match="shim has gone"):
                await starting
            await asyncio.sleep(0.5)
            await engine.containers.start(created.id)
            assert engine.containers.get(created.id).running
            await engine.containers.remove(created.id, force=True)
            await until(lambda: leftovers(tmp_path, created.id) == [])

    asyncio.run(work())


@pytest.fixture(autouse=True)
def _no_shim_stays(tmp_path: Path) -> Iterator[None]:
    yield
    end_shim(tmp_path)
