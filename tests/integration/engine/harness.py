"""An engine in this process, on folders of its own, and a look at what it leaves."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from orlop.engine.engine import Engine
from orlop.engine.requests import LogRequest
from orlop.engine.settings import Settings
from orlop.errors import UnavailableError
from orlop.model.container import ContainerOptions
from orlop.shim.client import Client

Work = Callable[[Engine], Awaitable[None]]


def settings(folder: Path) -> Settings:
    return Settings(root=folder / "root", run=folder / "run")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Engine]:
    """Open an engine and leave nothing of it: no container, no shim."""
    try:
        async with Engine.open(settings(folder)) as engine:
            try:
                yield engine
            finally:
                for container in engine.containers.list(all=True):
                    await engine.containers.remove(container.id, force=True, volumes=True)
    finally:
        end_shim(folder)


def end_shim(folder: Path) -> None:
    try:
        client = Client(str(settings(folder).shim_socket))
    except UnavailableError:
        return
    with suppress(UnavailableError):  # it is on its way out
        client.call({"op": "shutdown"})
    client.close()


def run_and_die(folder: Path, work: Callable[[Engine], Awaitable[None]]) -> None:
    """Run an engine in a child that is killed when *work* is done."""

    async def run() -> None:
        async with Engine.open(settings(folder)) as engine:
            await work(engine)
            os.kill(os.getpid(), signal.SIGKILL)

    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(run())
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def with_engine(folder: Path, work: Work, *, timeout_s: float = 300) -> None:
    """Run *work* against an engine that is opened for it."""

    async def run() -> None:
        async with opened(folder) as engine:
            await asyncio.wait_for(work(engine), timeout_s)

    asyncio.run(run())


def shell(text: str, **options: object) -> ContainerOptions:
    """Return the options of a container of the host image that runs *text*."""
    return ContainerOptions(image="host", command=("sh", "-c", text), **options)  # type: ignore[arg-type] # a test's shorthand


async def output(engine: Engine, ref: str) -> str:
    batches = await engine.containers.logs(ref, LogRequest())
    return b"".join([entry.text async for batch in batches for entry in batch]).decode()


async def run(engine: Engine, options: ContainerOptions) -> str:
    """Run a container to its end and return its id."""
    created = await engine.containers.create(options)
    over = asyncio.ensure_future(engine.containers.wait(created.id, condition="next-exit"))
    await asyncio.sleep(0)
    await engine.containers.start(created.id)
    await asyncio.wait_for(over, 20)
    return created.id


async def until(check: Callable[[], bool], *, timeout_s: float = 20) -> None:
    """Wait for *check* to be true; a failed assertion when it never is."""
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.02)


def leftovers(folder: Path, container_id: str) -> list[str]:
    """Return every path that still speaks of the container: folders, bundles, cgroups."""
    found = []
    for top in (folder, Path("/sys/fs/cgroup")):
        for parent, folders, files in os.walk(top):
            if parent.endswith("/removed") or "/.trash" in parent:
                folders.clear()
                continue
            found += [f"{parent}/{name}" for name in (*folders, *files) if container_id in name]
    return found


def mounts_of(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(folder) in line]
