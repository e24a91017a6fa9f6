"""Engines whose root is a small disk that nobody else sees."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.engines import EngineProcess

_WAIT_S = 30.0
_MUCH_KIB = 4096
_REF_NAME = "org.opencontainers.image.ref.name"


class OnADisk(EngineProcess):
    """An engine whose root is a disk of its own, in a mount namespace that outlives the engine."""

    def __init__(self, folder: Path, mounting: str) -> None:
        super().__init__(folder)
        self.root.mkdir()
        script = f"{mounting.format(root=self.root)} && echo mounted && exec sleep infinity"
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        assert said == "mounted\n", "the disk cannot be mounted"
        self._within = ["nsenter", "-t", str(self._keeper.pid), "-m", "--"]

    def inside(self, *words: str) -> str:
        """Run a command where the disk is."""
        command = [*self._within, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def space(self) -> int:
        """Return the KiB that are free."""
        return int(self.inside("df", "--output=avail", str(self.root)).split()[-1])

    def await_full(self, what: str = "avail") -> None:
        """Return once there is no space left, or none of another column of df(1)."""

        def is_full() -> bool:
            return self.inside("df", f"--output={what}", str(self.root)).split()[-1] == "0"

        self._await(is_full, "the disk does not become full")

    def await_space(self) -> None:
        """Return once what has filled the disk is gone."""
        self._await(lambda: self.space() > _MUCH_KIB, "the disk does not become free")

    def await_out(self, wanted: str, *words: str) -> None:
        """Return once `docker …` prints *wanted*."""
        self._await(lambda: self.out(*words) == wanted, f"{words} never prints {wanted!r}")

    def await_index(self, *names: str) -> None:
        """Return once the image layout on the disk names these images alone."""
        path = str(self.root / "content" / "index.json")

        def has_them() -> bool:
            listed = json.loads(self.inside("cat", path))["manifests"]
            found = {one["annotations"][_REF_NAME].rpartition("/")[2] for one in listed}
            return found == {*names}

        self._await(has_them, f"index.json never names {names}")

    def _await(self, done: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _WAIT_S
        while not done():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.05)

    def close(self) -> None:
        super().close()
        self._keeper.kill()
        self._keeper.communicate()


@contextlib.contextmanager
def engine_on(folder: Path, mounting: str) -> Iterator[OnADisk]:
    """Run an engine on the disk that the command *mounting* puts at {root}."""
    engine = OnADisk(folder, mounting)
    try:
        engine.start()
        yield engine
    finally:
        engine.close()
