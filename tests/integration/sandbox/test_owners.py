"""Owners, as an engine knows them: held, never held, gone, somebody else by now."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from orlop.engine import owners
from orlop.engine.engine import Engine
from orlop.engine.owners import Terms
from tests.integration.engine.harness import shell, until, with_engine


def left(engine: Engine) -> set[str]:
    return {container.id for container in engine.containers.list(all=True)}


async def opened(engine: Engine, *, pid: int) -> str:
    return await engine.owners.open(shell("sleep 600"), Terms(pid=pid), name=None)


def test_sandbox_that_nobody_holds_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_HELD_WITHIN_S", 0.05)

    async def work(engine: Engine) -> None:
        box = await opened(engine, pid=os.getpid())
        assert box in left(engine)
        await until(lambda: not left(engine))

    with_engine(tmp_path, work)


def test_opening_that_is_cancelled_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "_HELD_WITHIN_S", 0.05)

    async def work(engine: Engine) -> None:
        opening = asyncio.create_task(opened(engine, pid=os.getpid()))
        await until(lambda: bool(left(engine)))
        opening.cancel()
        await until(lambda: not left(engine))

    with_engine(tmp_path, work)


@pytest.mark.parametrize("pid", [0, os.getpid()])
def test_held_sandbox_stays_until_its_connection_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int
) -> None:
    monkeypatch.setattr(owners, "_HELD_WITHIN_S", 0.05)

    async def work(engine: Engine) -> None:
        box = await opened(engine, pid=pid)
        ours, theirs = socket.socketpair()
        with ours:
            engine.owners.hold(box, theirs)
            ours.send(b"what a client says is of no matter")
            await asyncio.sleep(0.3)
            assert left(engine) == {box}
        await until(lambda: not left(engine))

    with_engine(tmp_path, work)


@pytest.mark.parametrize("owner", ["unknown", f"{os.getpid()}:1", "4194304:1", "nonsense"])
def test_engine_that_comes_back_ends_what_has_no_owner(tmp_path: Path, owner: str) -> None:
    async def work(engine: Engine) -> None:
        lost = await engine.containers.create(shell("sleep 600", owner=owner))
        await engine.containers.start(lost.id)
        mine = await opened(engine, pid=os.getpid())
        ours, theirs = socket.socketpair()
        with ours:
            engine.owners.hold(mine, theirs)
            engine.owners.resume()
            await until(lambda: left(engine) == {mine})

    with_engine(tmp_path, work)


def test_sandbox_that_was_never_started_goes(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        me = f"{os.getpid()}:{Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19]}"
        await engine.containers.create(shell("true", owner=me))
        engine.owners.resume()
        await until(lambda: not left(engine))

    with_engine(tmp_path, work)
