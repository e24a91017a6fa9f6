"""The engine's workers, as the engine has them: who waits for whom."""

import asyncio
import socket
import subprocess
from pathlib import Path

from orlop.engine.images.bounds import Bounds
from orlop.engine.images.workers import Workers
from orlop.images.hosts import Endpoint
from orlop.images.job import Job
from orlop.images.registry import Source
from orlop.layers.budget import DEFAULT
from orlop.model.digest import DiffID
from orlop.model.image import OCI_LAYER, Descriptor
from orlop.runtime import cgroups
from orlop.store.content import Content
from tests.crafting import busybox, digest, layer


def test_registry_that_never_answers_holds_up_no_other_work(tmp_path: Path) -> None:
    data = layer(busybox)
    content = Content.create(tmp_path / "content")

    def job(source: Source | None, blob: bytes) -> Job:
        return Job(
            layer=Descriptor(media_type=OCI_LAYER, digest=content.add(blob), size=len(blob)),
            diff_id=DiffID(digest(data)),
            content=str(tmp_path / "content"),
            snapshots=str(tmp_path / "snapshots"),
            driver="overlay",
            source=source,
        )

    async def main() -> None:
        workers = Workers(tmp_path)
        mute = Source(repository="x", endpoints=(Endpoint(url=url),))
        jobs = [job(mute, b"%d" % number) for number in range(40)]
        for each in jobs:
            content.delete(each.layer.digest)
        waiting = [asyncio.ensure_future(workers.run(each)) for each in jobs]
        await asyncio.sleep(0)
        try:
            assert await asyncio.wait_for(workers.run(job(None, data)), 60) > 0
            assert not any(each.done() for each in waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await workers.close()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v2"
        asyncio.run(main())


def test_workers_are_in_a_cgroup_with_limits_that_goes_with_them(tmp_path: Path) -> None:
    data = layer(busybox)
    content = Content.create(tmp_path / "content")
    job = Job(
        layer=Descriptor(media_type=OCI_LAYER, digest=content.add(data), size=len(data)),
        diff_id=DiffID(digest(data)),
        content=str(tmp_path / "content"),
        snapshots=str(tmp_path / "snapshots"),
        driver="overlay",
    )

    async def main() -> None:
        workers = Workers(tmp_path)
        await workers.run(job)
        (worker,) = workers._idle
        name = _cgroup_of(worker._process.pid)
        assert _limits(name, worker._process.pid) == (True, "512")
        await workers.close()
        assert name not in cgroups.names("/orlop")

    asyncio.run(main())


def test_the_workers_cgroup_of_a_killed_engine_goes_with_the_next_one(tmp_path: Path) -> None:
    killed = Bounds(tmp_path, DEFAULT)
    with subprocess.Popen(["sleep", "60"]) as worker:
        killed.enter(worker.pid)
        name = _cgroup_of(worker.pid)
        worker.kill()
    asyncio.run(Workers(tmp_path).close())
    assert name not in cgroups.names("/orlop")


def _cgroup_of(pid: int) -> str:
    (name,) = {
        line.rpartition("/")[2]
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        if "/workers-" in line
    }
    return name


def _limits(name: str, pid: int) -> tuple[bool, str]:
    """Return whether the cgroup has a limit of memory, and its limit of processes."""
    cgroup = cgroups.open(f"/orlop/{name}")
    assert pid in set(cgroup.pids())
    statistics = cgroup.statistics()
    assert statistics.memory.limit_bytes is not None
    return statistics.memory.limit_bytes > 0, str(statistics.pids.limit)
