"""Time to live: kept by the engine, whatever the owner does, and by the engine after it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from orlop.engine.engine import Engine
from orlop.errors import NotFoundError
from tests.integration.engine.harness import shell, until, with_engine
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import Face, ids, wait_until


def test_sandbox_ends_when_its_time_is_over_though_its_owner_holds_it(
    face: Callable[..., Face], engine: EngineProcess
) -> None:
    short, long = face(lifetime=1), face(lifetime=600)
    wait_until(lambda: short.id not in ids(engine), "it lives on")
    assert long.id in ids(engine)
    with pytest.raises(NotFoundError):
        short.run(["true"])


def test_sandbox_that_is_kept_ends_when_its_time_is_over(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, keep=True, lifetime=1) as short:
        identifier = short.id
    with orlop.Sandbox(engine=engine.url, keep=True, lifetime=600) as long:
        kept = long.id
    wait_until(lambda: ids(engine) == {kept}, "it lives on")
    assert identifier != kept
    with Client(settings(host=engine.url)) as client:
        client.containers.remove(kept, force=True)


def test_engine_that_comes_back_keeps_the_time(tmp_path: Path) -> None:
    own = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    me = f"{os.getpid()}:{own}"

    async def work(engine: Engine) -> None:
        now, hour = time.time_ns(), 3600 * 10**9
        made = {}
        for name, owner, expires_ns in (
            ("over", me, now - hour),
            ("over, kept", "", now - hour),
            ("soon", me, now + 10**9),
            ("later", me, now + hour),
            ("later, kept", "", now + hour),
        ):
            options = shell("sleep 600", owner=owner, expires_ns=expires_ns)
            made[name] = (await engine.containers.create(options)).id
            await engine.containers.start(made[name])
        left = {made["later"], made["later, kept"]}
        engine.owners.resume()
        await until(lambda: {c.id for c in engine.containers.list(all=True)} == left)

    with_engine(tmp_path, work)
