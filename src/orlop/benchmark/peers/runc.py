"""runc alone: a bundle that is there, no image, no engine."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orlop.benchmark.driver import IDLE, MEMORY_BYTES, PIDS, Start, timed
from orlop.benchmark.image import Image
from orlop.benchmark.peers import daemons
from orlop.benchmark.peers.command import CommandDriver, unique
from orlop.errors import UnavailableError


class Runc(CommandDriver):
    """`runc run` of the image's folder, read-only, as `runc spec` has it, with the limits."""

    name = "runc"
    note = "has no image and no seccomp policy, and its root is read-only"

    def __init__(self, image: Image, folder: Path, run: Path) -> None:
        super().__init__()
        self._image = image
        self._folder = folder
        self._front = ["runc", "--root", str(run / "state")]
        self._probe = self._bundle(image.probe())

    def _bundle(self, command: Sequence[str], *, cpus: float | None = None) -> Path:
        bundle = self._folder / unique()
        bundle.mkdir()
        self.call("runc", "spec", "--bundle", str(bundle))
        file = bundle / "config.json"
        config: dict[str, Any] = json.loads(file.read_text())
        config["root"] = {"path": str(self._image.rootfs), "readonly": True}
        config["process"] |= {"terminal": False, "args": list(command), "env": ["PATH=/bin"]}
        resources = config["linux"].setdefault("resources", {})
        resources |= {"memory": {"limit": MEMORY_BYTES}, "pids": {"limit": PIDS}}
        if cpus is not None:
            resources["cpu"] = {"quota": int(cpus * 100_000), "period": 100_000}
        file.write_text(json.dumps(config))
        return bundle

    def once(self) -> Start:
        words = [*self._front, "run", "--bundle", str(self._probe), unique()]
        return timed(self._image, lambda: self.call(*words))

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        name = unique()
        bundle = self._bundle(command, cpus=cpus)
        self.detach(*self._front, "run", "-d", "--bundle", str(bundle), name)
        return name

    def execute(self, identifier: str) -> None:
        self.call(*self._front, "exec", identifier, "true")

    def remove(self, identifiers: Sequence[str]) -> None:
        for identifier in identifiers:
            self.call(*self._front, "delete", "-f", identifier)

    def forget(self) -> None:
        """Remove what an interrupted run has left."""
        with suppress(UnavailableError):
            self.remove(self.call(*self._front, "list", "-q").decode().split())


@contextmanager
def runc(image: Image, folder: Path, run: Path, *, start: bool) -> Iterator[list[Runc]]:
    """Use runc with a state folder of its own."""
    del start
    daemons.required("runc")
    driver = Runc(image, folder, run)
    try:
        yield [driver]
    finally:
        driver.forget()
