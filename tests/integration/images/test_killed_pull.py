"""A pull that is killed: no half image, nothing that a collection does not reclaim."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orlop.model import image as documents
from orlop.model.digest import Digest
from orlop.store.collect import collect
from orlop.store.content import Content
from orlop.store.metadata import Metadata
from tests.integration.images import samples, servers

_PULL = """
import sys
from pathlib import Path
from orlop.images.exchange import Patience
from orlop.images.pull import fetch_layers, resolve
from orlop.images.registry import Registry, source_of
from orlop.model.reference import parse_reference
from orlop.store.content import Content
from orlop.store.metadata import ImageRecord, Metadata

name, root = sys.argv[1], Path(sys.argv[2])
content = Content.create(root / "content")
with (
    Metadata(root / "db", content) as metadata,
    metadata.leases.hold() as lease,
    Registry(source_of(parse_reference(name), folders=()), patience=Patience(2)) as registry,
):
    found = resolve(registry, parse_reference(name), content, keep=lease.add)
    fetch_layers(registry, found, content, keep=lease.add)
    metadata.images.put(ImageRecord(
        name=name, target=found.target, manifest=found.descriptor,
        config=found.manifest.config.digest, created_ns=1))
"""


@pytest.fixture
def origin(tmp_path: Path) -> Content:
    return samples.store(tmp_path / "origin")


class StallingRegistry:
    """Serves an image. Stops in the middle of the nth answer, and of those after, until go_on."""

    def __init__(self, origin: Content, sample: samples.Sample, stop_at: int) -> None:
        self._origin = origin
        self._sample = sample
        self._stop_at = stop_at
        self.stopped, self.go_on = threading.Event(), threading.Event()
        self.ranges: list[str] = []

    def handle(self, exchange: servers.Exchange) -> None:
        name = exchange.path.rpartition("/")[2]
        digest = self._sample.record.target.digest if ":" not in name else Digest(name)
        data = self._origin.path(digest).read_bytes()
        start = int((exchange.headers.get("Range") or "bytes=0-")[6:-1])
        if start:
            self.ranges.append(digest)
        kind = self._sample.record.target.media_type if "/manifests/" in exchange.path else "x/y"
        headers = {"Content_Type": kind, "Content_Length": str(len(data) - start)}
        headers |= {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        stall = len(exchange.seen) >= self._stop_at and not self.go_on.is_set()
        half = data[start : start + (len(data) - start) // 2] if stall else data[start:]
        exchange.reply(206 if start else 200, half, **headers)
        if stall:
            exchange.wfile.flush()
            self.stopped.set()
            self.go_on.wait(20)
            exchange.cut()


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4])
def test_a_pull_killed_anywhere_leaves_nothing_that_stays(
    origin: Content, tmp_path: Path, stop_at: int
) -> None:
    layers = [samples.tar_of({name: os.urandom(3_000_000)}) for name in "ab"]
    sample = samples.make(origin, layers=layers, media_type=documents.OCI_LAYER)
    registry = StallingRegistry(origin, sample, stop_at)
    with servers.serving(registry.handle) as server:
        name = f"{server.host}/image:1"
        command = [sys.executable, "-c", _PULL, name, str(tmp_path / "root")]
        with subprocess.Popen(command) as pull:
            assert registry.stopped.wait(20)
            pull.send_signal(signal.SIGKILL)
        registry.go_on.set()
        content = Content.create(tmp_path / "root" / "content")
        for blob in content.walk():
            content.verify(blob.digest)
        with Metadata(tmp_path / "root" / "db", content) as metadata:
            assert metadata.images.list() == []
        subprocess.run(command, check=True, timeout=60)
        with Metadata(tmp_path / "root" / "db", content) as metadata:
            assert collect(content, metadata).removed == []
            assert {blob.digest for blob in content.walk()} == {
                blob.digest for blob in origin.walk()
            }
            metadata.images.remove(name)
            collect(content, metadata)
            assert list(content.walk()) == []
            assert list(content.abandoned()) == []


def test_what_a_killed_pull_left_is_reclaimed_without_pulling_again(
    origin: Content, tmp_path: Path
) -> None:
    layers = [samples.tar_of({"a": os.urandom(3_000_000)})]
    sample = samples.make(origin, layers=layers, media_type=documents.OCI_LAYER)
    registry = StallingRegistry(origin, sample, 3)
    with servers.serving(registry.handle) as server:
        name = f"{server.host}/image:1"
        command = [sys.executable, "-c", _PULL, name, str(tmp_path / "root")]
        with subprocess.Popen(command) as pull:
            assert registry.stopped.wait(20)
            pull.send_signal(signal.SIGKILL)
        registry.go_on.set()
    content = Content.create(tmp_path / "root" / "content")
    with Metadata(tmp_path / "root" / "db", content) as metadata:
        assert collect(content, metadata).reclaimed_bytes > 0
        assert list(content.walk()) == []
        assert list(content.abandoned()) == []
