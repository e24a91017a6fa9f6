"""An engine for each test, on a network without others, that leaves nothing on it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess
from tests.integration.networks.scenes import machine
from tests.integration.sandbox.networks.quick import LONG_S, Quick
from tests.outside import in_network_of_its_own


@pytest.fixture(scope="package", autouse=True)
def _network_without_others(network_of_the_tests: None) -> Iterator[None]:
    with in_network_of_its_own():
        yield


@pytest.fixture
def nothing_left(_network_without_others: None) -> Iterator[None]:
    """Fail where a device, an address, a route or a table has stayed."""
    before = machine()
    yield
    deadline = time.monotonic() + LONG_S
    while (now := machine()) != before and time.monotonic() < deadline:
        time.sleep(0.05)  # namespaces take their interfaces with them in their own time
    assert now == before


@pytest.fixture
def engine(nothing_left: None, tmp_path: Path) -> Iterator[EngineProcess]:
    process = EngineProcess(tmp_path)
    try:
        process.start()
        yield process
    finally:
        process.close()


@pytest.fixture
def quick(engine: EngineProcess) -> Iterator[Quick]:
    with Quick(engine.url) as quick:
        yield quick
