"""An engine of Orlop's for one run, in folders of its own."""

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orlop.benchmark.driver import BenchDriver
from orlop.benchmark.image import Image
from orlop.benchmark.orlop_driver import ways
from orlop.benchmark.processes import kill_marked
from orlop.client.address import Settings
from orlop.client.client import Client
from orlop.client.launch import engine_command
from orlop.errors import OrlopError

_ENDING_S = 20.0
_CHUNK = 1 << 20


@contextmanager
def running(image: Image, folder: Path, run: Path) -> Iterator[list[BenchDriver]]:
    """Start it, with the image; yield its drivers; end it and all that it has started."""
    settings = Settings(root=str(folder / "root"), run=str(run), host=None)
    with ended(settings):
        with Client(settings) as client:
            for message in client.images.load(_pieces(image.archive), quiet=True):
                if "error" in message:
                    raise OrlopError(f"the image was not loaded: {message['error']}")
        drivers = ways(settings, image)
        yield drivers
        for driver in drivers:
            with contextlib.suppress(OrlopError):  # of a sandbox that is gone
                driver.close()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            yield data


@contextmanager
def ended(settings: Settings) -> Iterator[None]:
    """At the end remove all containers, then the engine, and its shim, which would outlive it."""
    try:
        yield
    finally:
        with contextlib.suppress(OrlopError), Client(settings) as client:
            for found in client.containers.list(all_states=True):
                with contextlib.suppress(OrlopError):
                    client.containers.remove(found["Id"], force=True, volumes=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            words = [*engine_command(settings), "--stop"]
            subprocess.run(words, capture_output=True, check=False, timeout=_ENDING_S)
        kill_marked(settings.run)
