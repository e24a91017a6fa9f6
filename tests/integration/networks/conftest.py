"""Each test leaves the machine's network as it found it."""

import time
from collections.abc import Iterator

import pytest

from tests.integration.networks.scenes import machine
from tests.outside import in_network_of_its_own

_PATIENCE_S = 5.0


@pytest.fixture(scope="package", autouse=True)
def _network_without_others(network_of_the_tests: None) -> Iterator[None]:
    """Be where no dockerd of other tests has taken the first default addresses."""
    with in_network_of_its_own():
        yield


@pytest.fixture(autouse=True)
def _nothing_left(_network_without_others: None) -> Iterator[None]:
    """Fail where a device, an address, a route or a table has stayed."""
    before = machine()
    yield
    deadline = time.monotonic() + _PATIENCE_S
    while (now := machine()) != before and time.monotonic() < deadline:
        time.sleep(0.05)  # namespaces take their interfaces with them in their own time
    assert now == before
