"""The clock is set by days while containers run: nothing comes too early, or never."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from orlop.engine.containers.lifecycle import Lifecycle
from orlop.engine.engine import Engine
from orlop.engine.owners import Terms
from orlop.model.container import Container, Health, HealthState, RestartPolicy
from tests.integration.engine.harness import end_shim, opened, settings, shell, until, with_engine

_DAY_NS = 86_400_000_000_000
_time_ns = time.time_ns


def set_clock(monkeypatch: pytest.MonkeyPatch, by_ns: int) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: _time_ns() + by_ns)


def _health(engine: Engine, container_id: str) -> HealthState:
    found = engine.containers.get(container_id).health
    assert found is not None
    return found


def test_a_start_period_is_over_though_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        check = Health(
            test=("CMD", "false"), interval_ns=50_000_000, start_period_ns=500_000_000, retries=1
        )
        created = await engine.containers.create(shell("sleep 60", health=check))
        await engine.containers.start(created.id)
        set_clock(monkeypatch, -_DAY_NS)
        await until(lambda: _health(engine, created.id).status == "unhealthy")

    with_engine(tmp_path, work)


def test_a_start_period_is_not_over_because_the_clock_was_set_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        check = Health(
            test=("CMD", "false"),
            interval_ns=50_000_000,
            start_period_ns=3_600_000_000_000,
            retries=1,
        )
        created = await engine.containers.create(shell("sleep 60", health=check))
        await engine.containers.start(created.id)
        set_clock(monkeypatch, _DAY_NS)
        await until(lambda: len(_health(engine, created.id).log) > 2)
        assert _health(engine, created.id).status == "starting"

    with_engine(tmp_path, work)


def test_a_clock_that_is_set_forward_does_not_shorten_the_pauses_between_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Lifecycle.ended

    def a_day_later(self: Lifecycle, container: Container, exit_: dict[str, Any]) -> Container:
        return ended(self, container, exit_ | {"time_ns": exit_["time_ns"] + _DAY_NS})

    monkeypatch.setattr(Lifecycle, "ended", a_day_later)

    async def work(engine: Engine) -> None:
        policy = RestartPolicy(name="on-failure", maximum_retry_count=4)
        created = await engine.containers.create(shell("exit 1", restart=policy))
        await engine.containers.start(created.id)
        live = engine._context.live(created.id)
        await until(lambda: live.retries == 4)

    with_engine(tmp_path, work)


@pytest.mark.parametrize("by_ns", [_DAY_NS, -_DAY_NS])
def test_a_sandbox_lives_as_long_as_it_may_though_the_clock_was_set_between_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_ns: int
) -> None:
    async def begin(engine: Engine, lifetime_s: float) -> str:
        terms = Terms(pid=0, keep=True, lifetime_s=lifetime_s)
        return await engine.owners.open(shell("sleep 60"), terms, name=None)

    async def run() -> None:
        async with Engine.open(settings(tmp_path)) as engine:
            long, short = await begin(engine, 600), await begin(engine, 2)
        set_clock(monkeypatch, by_ns)
        async with opened(tmp_path) as engine:
            listed = engine.containers.list
            await until(lambda: short not in {one.id for one in listed(all=True)})
            assert engine.containers.get(long).running

    try:
        asyncio.run(run())
    finally:
        end_shim(tmp_path)
