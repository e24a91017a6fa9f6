"""The worker program: jobs in, reports out, and what is left when it fails or is killed."""

import json
import os
import select
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import isal.igzip
import pytest
import zstandard

from orlop.images.job import Report, error_of
from orlop.layers.budget import Budget
from orlop.snapshots.choose import open_driver
from orlop.snapshots.interface import layer_key
from orlop.store.content import Content
from tests.crafting import add, busybox, digest, layer

COMMAND = [sys.executable, "-I", "-m", "orlop.programs.worker"]


class Worker:
    """A worker process, and the folders it works on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = Content.create(folder / "content")
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        ready = self.read()
        assert ready["event"] == "ready"
        self.missing: list[str] = ready.get("missing", [])

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        return report

    def job(self, blob: bytes, tar: bytes, **fields: Any) -> bytes:
        stored = self.content.add(blob)
        job = {
            "layer": {"digest": stored, "size": len(blob)},
            "diff_id": digest(tar),
            "content": str(self.folder / "content"),
            "snapshots": str(self.folder / "snapshots"),
            "driver": "overlay",
            "type": "layer",
        }
        return json.dumps(job | fields).encode()

    def run(self, job: bytes) -> dict[str, Any]:
        self.send(job)
        while (report := self.read())["event"] == "progress":
            assert report["done"] <= report["total"]
        return report

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    started = Worker(tmp_path)
    yield started
    started.close()


def files_in(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def test_jobs_are_done_one_after_another(worker: Worker, tmp_path: Path) -> None:
    first, second = layer(busybox), layer(lambda tar: add(tar, "x", data=b"x"))
    assert worker.run(worker.job(isal.igzip.compress(first), first))["event"] == "done"
    assert worker.run(worker.job(second, second))["event"] == "done"
    driver = open_driver(str(tmp_path / "snapshots"), "overlay")
    assert driver.layers() == {layer_key(digest(first)), layer_key(digest(second))}


@pytest.mark.parametrize("damage", ["truncated", "corrupt", "not the diff_id", "not a tar"])
def test_bad_layer_is_one_clear_error_and_leaves_nothing(
    worker: Worker, tmp_path: Path, damage: str
) -> None:
    tar = layer(busybox)
    blob, expected = isal.igzip.compress(tar), tar
    if damage == "truncated":
        blob = blob[:-1000]
    elif damage == "corrupt":
        blob = blob[:5000] + bytes(1000) + blob[6000:]
    elif damage == "not the diff_id":
        expected = b"another"
    else:
        expected = b"these are not the bytes of a tar" * 100
        blob = isal.igzip.compress(expected)
    report = worker.run(worker.job(blob, expected))
    error = error_of(Report(**report))
    assert type(error).__name__ == "CorruptError"
    assert str(error).startswith("layer ")
    assert "Traceback" not in str(report)
    assert open_driver(str(tmp_path / "snapshots"), "overlay").layers() == set()
    assert files_in(tmp_path / "snapshots") == 0
    assert worker.run(worker.job(tar, tar))["event"] == "done"  # and it lives on


def test_damaged_blob_is_said_to_be_that(worker: Worker) -> None:
    tar = layer(busybox)
    job = worker.job(tar, tar)
    path = worker.content.path(worker.content.add(tar))
    path.chmod(0o644)
    path.write_bytes(tar[:-600] + b"\1" * 600)
    report = worker.run(job)
    assert (report["kind"], "damaged" in report["message"]) == ("corrupt", True)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"layer": 1}', b"\xff"])
def test_malformed_job_is_refused(worker: Worker, line: bytes) -> None:
    assert worker.run(line)["event"] == "failed"


def test_missing_blob_is_named(worker: Worker) -> None:
    tar = layer(busybox)
    job = json.loads(worker.job(tar, tar))
    job["layer"]["digest"] = digest(b"no such blob")
    report = worker.run(json.dumps(job).encode())
    assert report["kind"] == "not_found"
    assert digest(b"no such blob") in report["message"]


def test_end_of_input_ends_it(worker: Worker) -> None:
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.wait(10) == 0


def test_dies_with_its_parent(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen({COMMAND!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.stdout.close()
    pidfd = os.pidfd_open(pid)
    process.kill()
    process.wait()
    try:
        assert select.select([pidfd], [], [], 10)[0]
    finally:
        os.close(pidfd)


def test_killed_in_the_middle_leaves_what_collect_removes(worker: Worker, tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        for number in range(40):
            add(tar, f"{number}", data=os.urandom(1 << 20))

    tar = layer(fill)
    worker.send(worker.job(tar, tar))
    staging = tmp_path / "snapshots" / "overlay" / "staging"
    deadline = time.monotonic() + 10
    while not any(staging.glob("*/fs/*")):
        assert time.monotonic() < deadline
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    assert worker.process.stdout is not None
    worker.process.stdout.read()  # to its end: the process of the job has gone, too
    driver = open_driver(str(tmp_path / "snapshots"), "overlay")
    assert driver.layers() == set()
    assert driver.collect() == 1
    assert files_in(tmp_path / "snapshots") == 0


def test_worker_refuses_a_layer_beyond_the_budget_of_its_job(worker: Worker) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        for number in range(12):
            add(tar, f"{number}")

    tar = layer(fill)
    report = worker.run(worker.job(tar, tar, budget=Budget(entries=10)))
    assert report["kind"] == "exhausted"
    assert "more than 10 files" in report["message"]
    assert "ORLOP_LAYER_BUDGET" in report["hint"]
    assert os.listdir(worker.folder / "snapshots/overlay/layers") == []


def zstd_bomb(tar: bytes) -> bytes:
    frame = zstandard.compress(bytes(64 << 20))
    return zstandard.compress(tar) + frame * 16


def gzip_bomb(tar: bytes) -> bytes:
    member = isal.igzip.compress(bytes(64 << 20), compresslevel=1)
    return isal.igzip.compress(tar) + member * 16


@pytest.mark.parametrize("bomb", [gzip_bomb, zstd_bomb])
def test_bomb_ends_at_its_budget_and_takes_little_memory_until_then(
    worker: Worker, bomb: Callable[[bytes], bytes]
) -> None:
    tar = layer(lambda tar: add(tar, "x"))
    budget = Budget(bytes=768 << 20, memory_bytes=320 << 20)
    report = worker.run(worker.job(bomb(tar), tar, budget=budget))
    assert report["kind"] == "exhausted"
    assert "more than 805,306,368 bytes" in report["message"]
    assert "memory" not in report["message"]
    assert os.listdir(worker.folder / "snapshots/overlay/staging") == []
