"""Each step of create and start fails in turn, and nothing is left of it."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.errors import ExhaustedError
from orlop.model.container import MountPoint, Status
from tests.integration.engine.harness import (
    end_shim,
    leftovers,
    opened,
    settings,
    shell,
    until,
    with_engine,
)


class _StepFailedError(ExhaustedError):
    pass


def _fail(*_args: object, **_more: object) -> None:
    raise _StepFailedError("disk full")


CREATE_STEPS: dict[str, Callable[[Engine], tuple[object, str]]] = {
    "volume": lambda e: (e._context.metadata.volumes, "add"),
    "snapshot": lambda e: (e._context.snapshots, "prepare"),
    "bundle": lambda e: (e.containers._creation._bundles, "write"),
    "filling of the volume": lambda e: (e.volumes, "fill"),
    "container record": lambda e: (e._context.metadata.containers, "add"),
}


@pytest.mark.parametrize("step", CREATE_STEPS)
def test_nothing_is_left_when_a_step_of_create_fails(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        target, name = CREATE_STEPS[step](engine)
        mount = MountPoint(type="volume", target="/var", source="")
        with monkeypatch.context() as patch:
            patch.setattr(target, name, _fail)
            with pytest.raises(_StepFailedError):
                await engine.containers.create(shell("true", mounts=(mount,)), name="box")
        assert engine.containers.list(all=True) == []
        assert engine._context.metadata.containers.list() == []
        assert engine._context.metadata.volumes.list() == []
        assert engine._context.snapshots.snapshots() == set()
        for folder in ("root/containers", "root/volumes", "run/containers"):
            assert os.listdir(tmp_path / folder) == [], folder
        await engine.containers.create(shell("true", mounts=(mount,)), name="box")

    with_engine(tmp_path, work)


def test_a_start_that_fails_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exit 6"))
        with monkeypatch.context() as patch:
            patch.setattr(engine._context.shim, "request", _fail)
            with pytest.raises(_StepFailedError):
                await engine.containers.start(created.id)
        container = engine.containers.get(created.id)
        assert container.status == Status.CREATED
        assert container.error == "disk full"
        over = asyncio.ensure_future(engine.containers.wait(created.id, condition="next-exit"))
        await asyncio.sleep(0)
        await engine.containers.start(created.id)
        assert (await asyncio.wait_for(over, 10)).exit_code == 6
        assert engine.containers.get(created.id).error == ""

    with_engine(tmp_path, work)


def test_what_cannot_be_recorded_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exec sleep 60"))
        with monkeypatch.context() as patch:
            patch.setattr(engine._context.records, "save", _fail)
            with pytest.raises(_StepFailedError):
                await engine.containers.start(created.id)
        await until(lambda: os.listdir(tmp_path / "run" / "running") == [])
        assert engine.containers.get(created.id).status == Status.CREATED
        await engine.containers.start(created.id)
        assert engine.containers.get(created.id).running

    with_engine(tmp_path, work)


def test_a_start_that_cannot_be_recorded_is_over_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exec sleep 60"))
        shim = (await engine._context.shim.request({"op": "hello"}))["pid"]

        def fail(*_args: object) -> None:
            os.kill(shim, signal.SIGSTOP)  # it sees late that the process has ended
            asyncio.get_running_loop().call_later(0.3, os.kill, shim, signal.SIGCONT)
            _fail()

        with monkeypatch.context() as patch:
            patch.setattr(engine._context.records, "save", fail)
            with pytest.raises(_StepFailedError):
                await engine.containers.start(created.id)
        await engine.containers.start(created.id)
        assert engine.containers.get(created.id).running

    with_engine(tmp_path, work)


def test_an_exit_that_cannot_be_stored_is_seen_and_stored_once_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("sleep .3; exit 8"))
        await engine.containers.start(created.id)
        stored = engine._context.metadata.containers
        with monkeypatch.context() as patch:
            patch.setattr(stored, "save", _fail)
            await until(lambda: not engine.containers.get(created.id).running)
            assert engine.containers.get(created.id).exit_code == 8
            assert stored.get(created.id).running
            assert os.listdir(tmp_path / "run" / "exits") != []  # for the next engine
        await until(lambda: not stored.get(created.id).running)
        assert stored.get(created.id).exit_code == 8

    with_engine(tmp_path, work)


def test_a_removal_that_cannot_be_stored_is_seen_and_stored_once_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("true"), name="box")
        stored = engine._context.metadata.containers
        with monkeypatch.context() as patch:
            patch.setattr(stored, "save", _fail)
            patch.setattr(stored, "remove", _fail)
            await engine.containers.remove(created.id)
            assert engine.containers.list(all=True) == []
            with pytest.raises(_StepFailedError):
                await engine.containers.create(shell("true"), name="box")
        await until(lambda: stored.list() == [])
        await engine.containers.create(shell("true"), name="box")

    with_engine(tmp_path, work)


def test_a_removal_that_fails_leaves_a_dead_container_that_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("true"))
        with monkeypatch.context() as patch:
            patch.setattr(engine._context.snapshots, "remove", _fail)
            with pytest.raises(Exception, match="disk full"):
                await engine.containers.remove(created.id)
        assert engine.containers.get(created.id).status == Status.DEAD
        await engine.containers.remove(created.id)
        assert leftovers(tmp_path, created.id) == []

    with_engine(tmp_path, work)


def test_what_a_dead_engine_was_making_is_gone_when_the_next_opens(tmp_path: Path) -> None:
    """The snapshot, the folders and the volume are there, and the record is not."""

    async def die() -> None:
        async with Engine.open(settings(tmp_path)) as engine:
            mount = MountPoint(type="volume", target="/var", source="kept")
            created = await engine.containers.create(shell("true", mounts=(mount,)))
            engine._context.metadata.containers.remove(created.id)
            (tmp_path / "root" / "volumes" / "half" / "_data").mkdir(parents=True)

    async def look() -> None:
        async with opened(tmp_path) as engine:
            assert engine._context.snapshots.snapshots() == set()
            assert os.listdir(tmp_path / "root" / "containers") == []
            assert os.listdir(tmp_path / "run" / "containers") == []
            assert os.listdir(tmp_path / "root" / "volumes") == ["kept"]

    asyncio.run(die())
    asyncio.run(look())
    end_shim(tmp_path)
