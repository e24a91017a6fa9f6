"""The engine, or a worker, is killed while an image is pulled."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.model import image as documents
from orlop.model.digest import Digest
from tests.integration.images import samples, servers
from tests.integration.kills.remains import descendants
from tests.integration.kills.scene import Scene
from tests.integration.kills.strikes import chosen, noting, striking

_LAYERS = 3
_LAYER_BYTES = 1_500_000
_PIECES = 4
_MOMENTS = 8


class Origin:
    """A registry of one image, whose blobs come in pieces."""

    def __init__(self, folder: Path) -> None:
        content = samples.store(folder)
        layers = [
            samples.tar_of({f"file{number}": os.urandom(_LAYER_BYTES)}) for number in range(_LAYERS)
        ]
        sample = samples.make(content, layers=layers, media_type=documents.OCI_LAYER_GZIP)
        self._content = content
        self._target = sample.record.target
        self.name = ""

    def handle(self, exchange: servers.Exchange) -> None:
        name = exchange.path.rpartition("/")[2]
        if not name:
            return exchange.reply(200)
        digest = Digest(name) if ":" in name else self._target.digest
        data = self._content.path(digest).read_bytes()
        start = int((exchange.headers.get("Range") or "bytes=0-")[6:-1])
        kind = self._target.media_type if "/manifests/" in exchange.path else "x/y"
        exchange.send_response(206 if start else 200)
        exchange.send_header("Content-Type", kind)
        exchange.send_header("Docker-Content-Digest", digest)
        exchange.send_header("Content-Length", str(len(data) - start))
        if start:
            exchange.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        exchange.end_headers()
        self._send(exchange, data[start:])
        return None

    @staticmethod
    def _send(exchange: servers.Exchange, data: bytes) -> None:
        size = max(1, len(data) // _PIECES)
        try:
            for start in range(0, len(data), size):
                if exchange.command != "HEAD":
                    exchange.wfile.write(data[start : start + size])
                    time.sleep(0.005 if len(data) > size * _PIECES // 2 > 10_000 else 0)
        except OSError:
            exchange.cut()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    origin = Origin(tmp_path_factory.mktemp("origin"))
    with servers.serving(origin.handle) as server:
        origin.name = f"{server.host}/image:1"
        yield origin


def _pull(scene: Scene, name: str) -> str:
    """Pull and return the error, "" for none, "dead" if the engine died meanwhile."""
    reference, _, tag = name.rpartition(":")
    try:
        status, data = scene.docker.raw("POST", f"/images/create?fromImage={reference}&tag={tag}")
    except OSError:
        return "dead"
    last = data.decode().strip().splitlines()[-1]
    return last if status >= 400 or '"error"' in last else ""


def _images(scene: Scene) -> list[str]:
    return [tag for one in scene.docker.ok("GET", "/images/json") for tag in one["RepoTags"]]


def _assert_whole_or_absent(scene: Scene, name: str, *, pulled: bool) -> None:
    """Fail unless the image can be used, now if it is listed, and else after another pull."""
    if name not in _images(scene):
        assert not pulled
        assert _pull(scene, name) == ""
    body = {"Image": name, "Cmd": ["/x"], "HostConfig": {"CgroupParent": f"/{scene.cgroup}"}}
    made = scene.docker.ok("POST", "/containers/create", body)["Id"]
    for number in range(_LAYERS):
        found = scene.docker.raw("GET", f"/containers/{made}/archive?path=/file{number}")
        assert found[0] == 200
        assert len(found[1]) > _LAYER_BYTES
    scene.remove(made)


def _nothing_left(scene: Scene, name: str, after: str) -> None:
    if name in _images(scene):
        scene.docker.ok("DELETE", f"/images/{name}")
    scene.nothing_left(after)


def test_a_pull_whose_engine_is_killed_at_any_step_leaves_nothing_half(
    scene: Scene, tmp_path: Path, origin: Origin
) -> None:
    assert scene.engine.process is not None
    with noting(scene.engine.process.pid, tmp_path / "calls") as points:
        assert _pull(scene, origin.name) == ""
    _assert_whole_or_absent(scene, origin.name, pulled=True)
    _nothing_left(scene, origin.name, "a pull")
    for turn, point in enumerate(chosen(points)):
        with striking(scene.engine.process.pid, point):
            error = _pull(scene, origin.name)
        scene.revive()
        if turn % 2:  # what the killed pull left is reclaimed, with and without another pull
            _assert_whole_or_absent(scene, origin.name, pulled=error == "")
        _nothing_left(scene, origin.name, f"a pull, engine killed at {point}")
    scene.assert_alive(scene.witness)


def _workers() -> list[int]:
    found = []
    for pid in descendants(os.getpid()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if b"orlop.programs.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.mark.parametrize("kills", [1, 1000], ids=["once", "again and again"])
def test_a_pull_whose_workers_are_killed_works_or_says_so(
    scene: Scene, origin: Origin, kills: int
) -> None:
    begun = time.monotonic()
    assert _pull(scene, origin.name) == ""
    whole_s = time.monotonic() - begun
    _nothing_left(scene, origin.name, "a pull")
    for moment in range(_MOMENTS):
        over = threading.Event()
        hunter = threading.Thread(target=_hunt, args=(over, whole_s * moment / _MOMENTS, kills))
        hunter.start()
        error = _pull(scene, origin.name)
        over.set()
        hunter.join()
        assert not error or "killed" in error, error
        assert (origin.name in _images(scene)) == (error == "")
        _assert_whole_or_absent(scene, origin.name, pulled=error == "")
        _nothing_left(scene, origin.name, f"a pull, workers killed after {moment}/{_MOMENTS}")


def _hunt(over: threading.Event, delay_s: float, kills: int) -> None:
    """Kill a worker each time one is seen, after *delay_s*, and *kills* times at most."""
    over.wait(delay_s)
    while kills and not over.is_set():
        for pid in _workers()[:kills]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                kills -= 1
        over.wait(0.005)
