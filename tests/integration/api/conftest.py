"""What tests with the docker command share."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess


@pytest.fixture(scope="module")
def image(engine: EngineProcess, busybox_archive: Path) -> str:
    """The name of an image that the engine has."""
    engine.docker("load", "-i", str(busybox_archive))
    return "busybox:test"


@pytest.fixture
def name(engine: EngineProcess) -> Iterator[str]:
    """A container's name; what has it in the end is removed."""
    name = "t" + uuid.uuid4().hex[:10]
    yield name
    engine.docker("rm", "-f", "-v", name, check=False)


@pytest.fixture
def eventually(engine: EngineProcess) -> Callable[[str, str, str], None]:
    """Wait until `docker inspect -f TEMPLATE NAME` prints what is wanted."""

    def wait(name: str, template: str, wanted: str) -> None:
        deadline = time.monotonic() + 20
        while (found := engine.out("inspect", "-f", template, name)) != wanted:
            assert time.monotonic() < deadline, f"{template} is {found}, not {wanted}"
            time.sleep(0.05)

    return wait
