"""Lists hold from the first moment to the last: without the engine, and after others' changes."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.engine.identity import label
from orlop.errors import OrlopError
from orlop.model.network import EndpointOptions
from tests.integration.engine.harness import opened as opened_engine
from tests.integration.engine.harness import run_and_die, settings, until, with_engine
from tests.integration.networks.egress.world import (
    ADDRESS,
    NAMESERVER,
    OTHER,
    World,
    box,
    inside,
    opened,
    said,
    tries,
)
from tests.integration.networks.scenes import address, machine, made

_LISTED = ("plain.example:7000", f"tcp:{OTHER}:7001")
_WANTED = {
    f"tcp/{ADDRESS}/7000": "open",
    f"tcp/{ADDRESS}/7001": "refused",
    f"tcp/{OTHER}/7001": "open",
    f"tcp/{NAMESERVER}/7000": "refused",
}


@pytest.fixture(autouse=True)
def _names_last(outside: World) -> None:
    """What a name opens stays open to the end of a test, on a busy machine too."""
    outside.names.ttl_s = 3600


async def _holds(where: list[str]) -> None:
    assert dict(zip(_WANTED, await tries(where, *_WANTED), strict=True)) == _WANTED


def test_a_list_holds_while_no_engine_runs_and_the_next_one_knows_it(tmp_path: Path) -> None:
    async def first(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        some = await box(engine, "some", "a", _LISTED)
        assert await tries(inside(some), "tcp/plain.example/7000") == ["open"]
        pids.write_text(str(some.pid))

    async def second() -> None:
        where = ["nsenter", f"--target={pids.read_text()}", "--net", "--mount"]
        await _holds(where)
        async with opened_engine(tmp_path) as engine:
            await _holds(where)
            assert await tries(where, "tcp/plain.example/7000") == ["open"]
            ended = await box(engine, "ended", "a", ())
            assert await tries(inside(ended), f"tcp/{ADDRESS}/7000") == ["refused"]

    pids = tmp_path / "pid"
    run_and_die(tmp_path, first)
    asyncio.run(second())


def test_rules_that_somebody_removes_come_back_with_what_names_opened(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        some = await box(engine, "some", "bridge", _LISTED)
        assert await tries(inside(some), "tcp/plain.example/7000") == ["open"]
        subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=60)
        await until(lambda: sum("-egress" in line for line in machine()) == 2)
        await _holds(inside(some))

    with_engine(tmp_path, work, timeout_s=300)


def _table(folder: Path) -> str:
    return f"orlop-{label(settings(folder).root)}-egress"


@asynccontextmanager
async def _owned_by_another(folder: Path) -> AsyncIterator[None]:
    """Have a process that alone may change the table which an engine has for bridges."""
    name = _table(folder)
    with subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdin is not None
            owner.stdin.write(f"add table bridge {name} {{ flags owner; }}\n")
            owner.stdin.flush()
            await until(lambda: any(name in line for line in machine()))
            yield
        finally:
            owner.kill()


def test_an_engine_that_cannot_take_lists_over_leaves_them_and_adds_none(tmp_path: Path) -> None:
    async def first(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        await box(engine, "some", "a", (f"tcp:{OTHER}:7001",))

    async def second() -> None:
        wanted = (f"tcp/{OTHER}/7001", f"tcp/{OTHER}/7000")
        subprocess.run(["nft", "delete", "table", "bridge", _table(tmp_path)], check=True)
        async with AsyncExitStack() as stack:
            async with _owned_by_another(tmp_path):
                engine = await stack.enter_async_context(opened_engine(tmp_path))
                some = inside(engine.containers.get("some"))
                with pytest.raises(OrlopError, match="cannot set the rules of an egress list"):
                    await box(engine, "other", "a", ())
                assert await tries(some, *wanted) == ["open", "refused"]
            await engine.containers.start("other")
            other = inside(engine.containers.get("other"))
            assert await tries(some, *wanted) == ["open", "refused"]
            assert await tries(other, *wanted) == ["refused", "refused"]

    run_and_die(tmp_path, first)
    asyncio.run(second())


def test_who_cannot_be_held_to_a_list_does_not_start(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        await box(engine, "other", "a")
        before = machine()
        async with _owned_by_another(tmp_path):
            with pytest.raises(OrlopError, match="cannot set the rules of an egress list"):
                await box(engine, "some", "a", ("203.0.113.0/24",))
        container = engine.containers.get("some")
        assert (container.running, container.endpoints) == (False, ())
        await until(lambda: machine() == before)
        await engine.containers.start("some")
        some = inside(engine.containers.get("some"))
        assert await tries(some, f"tcp/{ADDRESS}/7000", "tcp/10.1.0.2/7000") == ["open", "refused"]

    with_engine(tmp_path, work, timeout_s=300)


def test_who_has_an_address_next_is_held_to_its_own_list(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/30")
        await made(engine, "b", "10.2.0.0/24")
        lists = ((), None, ("plain.example:7000",), (), None)
        for turn, egress in enumerate(lists):
            some = await box(engine, f"c{turn}", "a", egress)
            assert address(some) == "10.1.0.2"
            if egress:
                assert await tries(inside(some), "tcp/plain.example/7000") == ["open"]
                assert len(opened("ports4")) == 1
            expected = "refused" if egress == () else "open"
            assert await tries(inside(some), f"tcp/{ADDRESS}/7000") == [expected]
            await engine.containers.remove(some.id, force=True)
            assert not opened("ports4")

    with_engine(tmp_path, work, timeout_s=300)


def test_a_list_holds_on_networks_that_come_later(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24", internal=True)
        await made(engine, "b", "10.2.0.0/24")
        await box(engine, "peer", "b")
        some = inside(await box(engine, "some", "a", (f"{OTHER}:7000",)))
        await engine.networks.connect("b", "some", EndpointOptions())
        wanted = (f"tcp/{OTHER}/7000", f"tcp/{ADDRESS}/7000", "tcp/10.2.0.2/7000")
        assert await tries(some, *wanted) == ["open", "refused", "refused"]
        await engine.networks.disconnect("b", "some")
        assert await tries(some, "tcp/10.1.0.1/7000") == ["refused"]
        assert len(await _sources()) == 1

    with_engine(tmp_path, work, timeout_s=300)


async def _sources() -> list[str]:
    """Return the addresses that lead to lists."""
    told = await said([], "nft", "list", "ruleset")
    return [line for line in told.splitlines() if ": goto list-" in line]
