"""Archives that clients send: taken apart by confined workers, of which nothing is believed."""

import asyncio
import gc
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orlop.engine.engine import Engine
from orlop.engine.images.workers import Workers
from orlop.errors import CorruptError, InvalidArgumentError, OrlopError, UnavailableError
from orlop.images.archives.load import LoadedImage
from orlop.images.job import ArchiveJob, Report
from orlop.model.digest import Digest
from orlop.model.image import Descriptor
from orlop.model.reference import parse_reference
from orlop.programs.confinement import USER
from tests.integration.engine.harness import with_engine
from tests.integration.engines import busybox_layer
from tests.integration.layers.test_confinement import _status_of_child
from tests.integration.layers.test_worker import Worker
from tests.integration.layers.test_worker import worker as worker

_DIGEST = Digest("sha256:" + 64 * "0")
Listen = Callable[[Report], Awaitable[None] | None]


async def _pieces(data: bytes, *, then: BaseException | None = None) -> AsyncIterator[bytes]:
    yield data
    if then is not None:
        raise then


@pytest.mark.parametrize("holds", ["images", "root"])
def test_an_archive_is_read_by_a_process_that_is_confined(
    worker: Worker, busybox_archive: Path, holds: str
) -> None:
    reader, writer = os.pipe()
    job = {
        "type": "archive",
        "stream": f"/proc/{os.getpid()}/fd/{reader}",
        "content": str(worker.folder / "content"),
        "holds": holds,
    }
    worker.send(json.dumps(job).encode())
    status = _status_of_child(worker.process.pid)
    assert set(status["Uid"].split()[:3]) == {str(USER)}
    cat = subprocess.Popen(["cat", busybox_archive], stdout=writer)
    os.close(writer)
    os.close(reader)
    assert cat.wait() == 0
    reports: list[dict[str, Any]] = []
    while not reports or reports[-1]["event"] not in ("done", "failed"):
        reports.append(worker.read())
    assert reports[-1] == {"event": "done"}
    kept = {report["digest"] for report in reports if report["event"] == "keep"}
    stored = {blob.digest for blob in worker.content.walk()}
    assert kept == stored != set()
    if holds == "images":
        (image,) = [report["image"] for report in reports if report["event"] == "image"]
        assert image[0] == ["docker.io/library/busybox:test"]
    else:
        (layer,) = [report["layer"] for report in reports if report["event"] == "layer"]
        assert layer[0]["digest"] in stored


def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    content = tmp_path / "root" / "content"

    async def work(engine: Engine) -> None:
        half = busybox_layer()[: 1 << 19]
        gone = ConnectionResetError("gone")
        with pytest.raises(ConnectionResetError):
            await engine.images.import_(_pieces(half, then=gone), parse_reference("made:1"))
        with pytest.raises(ConnectionResetError):
            await engine.images.load(_pieces(half, then=gone), progress=lambda _: None)
        files = [path for path in content.rglob("*") if path.is_file()]
        assert [path for path in files if path.stat().st_size > 4096] == []

    with_engine(tmp_path, work)


def test_an_archive_that_is_none_is_refused_before_all_of_it_has_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"this is no tar, and it does not end\n" * 4096
            await asyncio.sleep(0)

    async def work(engine: Engine) -> None:
        with pytest.raises(InvalidArgumentError):
            await engine.images.load(endless(), progress=lambda _: None)
        gc.collect()
        await asyncio.sleep(0)

    with_engine(tmp_path, work)
    assert "never retrieved" not in caplog.text


def _image(name: str = "docker.io/library/x:1", config: str = _DIGEST) -> LoadedImage:
    blob = Descriptor(digest=_DIGEST, size=1)
    return LoadedImage((name,), blob, blob, Digest(config))


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (_image(name="x"), CorruptError),
        (_image(name="docker.io/../../x:1"), OrlopError),
        (_image(config="sha256:../../../../etc/passwd"), InvalidArgumentError),
        (_image(), UnavailableError),
    ],
)
def test_what_a_worker_says_of_an_archive_is_not_believed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    image: LoadedImage,
    error: type[OrlopError],
) -> None:
    run = Workers.run

    async def lie(self: Workers, job: object, listener: Listen) -> int:
        if not isinstance(job, ArchiveJob):
            return await run(self, job, listener)  # type: ignore[arg-type]
        listener(Report(event="image", image=image))
        return 0

    monkeypatch.setattr(Workers, "run", lie)

    async def work(engine: Engine) -> None:
        with pytest.raises(error if error is not CorruptError else InvalidArgumentError):
            await engine.images.load(_pieces(b""), progress=lambda _: None)
        assert await engine.images.list() == []

    with_engine(tmp_path, work)
