"""An engine that is watched, with an image, and the command line pointed at it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import CommandLine
from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"


class Watched(EngineProcess):
    """An engine with more in its environment."""

    def __init__(self, folder: Path, **more: str) -> None:
        super().__init__(folder)
        self._more = more

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self._more}

    @property
    def cli(self) -> CommandLine:
        return CommandLine(self.environment())


def free_port() -> int:
    """Return a port that nobody has, in the network namespace of the tests."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path, metrics_port: int
) -> Iterator[Watched]:
    """An engine with the image busybox:test that serves metrics on *metrics_port*."""
    engine = Watched(tmp_path_factory.mktemp("w"), ORLOP_METRICS=f"127.0.0.1:{metrics_port}")
    try:
        engine.start()
        engine.cli.out("load", "-i", str(busybox_archive))
        yield engine
    finally:
        engine.close()
