"""An engine for hostile images and requests, and a way to make such images."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import crafting
from tests.integration.engines import EngineProcess

Fill = Callable[[tarfile.TarFile], None]


class Hostile:
    """Loads crafted images into an engine and runs them."""

    def __init__(self, engine: EngineProcess, folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        self._count = 0

    def image(self, *fills: Fill, config: dict[str, Any] | None = None) -> str:
        """Load busybox with a layer on top for each of *fills*; return its name."""
        self._count += 1
        name = f"hostile-{self._folder.name.lower()}:{self._count}"
        layers = [crafting.layer(fill) for fill in (crafting.busybox, *fills)]
        archive = crafting.docker_archive(self._folder / "image.tar", name, layers, config)
        self.engine.docker("load", "-q", "-i", str(archive))
        return name

    def run(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Run a command to its end; return what it said, errors too, whatever came of it."""
        done = self.engine.docker(
            "run", "--rm", "--network", "none", *options, image, *command, check=False
        )
        return done.stdout + done.stderr

    def refused(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Return the complaint about a run that must not happen."""
        done = self.engine.docker(
            "run", "--rm", "--network", "none", *options, image, *command, check=False
        )
        assert done.returncode in (125, 126, 127), (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def hostile(engine: EngineProcess, tmp_path: Path) -> Hostile:
    return Hostile(engine, tmp_path)
