"""Where the time of a start goes: the engine's part, and the shim's, without any client.

An engine is opened in this process on folders of its own; each round creates,
starts and auto-removes a container of the image `host` that runs `true`.
"""

import asyncio
import time
from typing import Any, NamedTuple

from orlop.benchmark.bench import Bench
from orlop.engine.engine import Engine
from orlop.engine.settings import Settings
from orlop.engine.shimlink import Link
from orlop.model.container import ContainerOptions


class Round(NamedTuple):
    """Milliseconds."""

    create_ms: float
    start_ms: float  # without the shim's answer
    shim_ms: float
    exit_ms: float  # from the start's answer until nothing is left


class TimedLink(Link):
    """Remembers how long the last start took to be answered."""

    last_ms = 0.0

    async def request(self, message: dict[str, Any], fds: Any = ()) -> Any:
        began = time.perf_counter()
        try:
            return await super().request(message, fds)
        finally:
            if message["op"] == "start":
                TimedLink.last_ms = (time.perf_counter() - began) * 1e3


async def one_round(engine: Engine) -> Round:
    began = time.perf_counter()
    options = ContainerOptions(image="host", command=("true",), auto_remove=True)
    created = await engine.containers.create(options)
    gone = asyncio.ensure_future(engine.containers.wait(created.id, condition="removed"))
    await asyncio.sleep(0)
    made = time.perf_counter()
    await engine.containers.start(created.id)
    started = time.perf_counter()
    await gone
    ended = time.perf_counter()
    shim = TimedLink.last_ms
    return Round(
        create_ms=(made - began) * 1e3,
        start_ms=(started - made) * 1e3 - shim,
        shim_ms=shim,
        exit_ms=(ended - started) * 1e3,
    )


def measure(bench: Bench) -> None:
    """Start --starts containers."""
    asyncio.run(_measure(bench))


async def _measure(bench: Bench) -> None:
    root, run = bench.places("engine_start")
    results = []
    async with Engine.open(Settings(root=root, run=run)) as engine:
        engine._context.shim.__class__ = TimedLink
        await one_round(engine)
        try:
            for number in range(bench.plan.starts):
                bench.progress(number / bench.plan.starts, "started")
                results.append(await one_round(engine))
        finally:
            await engine._context.shim.request({"op": "shutdown"})
    bench.add_each({"orlop": results})
