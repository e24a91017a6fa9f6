"""Where the time of a start goes: the engine's part, and the shim's, without any client.

    python -m bench.engine_start [ROUNDS]

An engine is opened in this process on folders of its own; each round creates,
starts and auto-removes a container of the image `host` that runs `true`.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from orlop.engine.engine import Engine
from orlop.engine.settings import Settings
from orlop.engine.shimlink import Link
from orlop.model.container import ContainerOptions


class Round(NamedTuple):
    """Milliseconds."""

    create: float
    start: float  # without the shim's answer
    shim: float
    exit: float  # from the start's answer until nothing is left


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
        create=(made - began) * 1e3,
        start=(started - made) * 1e3 - shim,
        shim=shim,
        exit=(ended - started) * 1e3,
    )


async def measure(folder: Path, rounds: int) -> list[Round]:
    settings = Settings(root=folder / "root", run=folder / "run")
    async with Engine.open(settings) as engine:
        engine._context.shim.__class__ = TimedLink
        await one_round(engine)
        results = [await one_round(engine) for _ in range(rounds)]
        await engine._context.shim.request({"op": "shutdown"})
    return results


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measure(Path(folder), rounds))
    for name, values in zip(Round._fields, zip(*results, strict=True), strict=True):
        worst = max(values)
        print(f"{name:>8} {statistics.median(values):7.2f} ms   worst {worst:7.2f} ms")


if __name__ == "__main__":
    main()
