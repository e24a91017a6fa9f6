"""Each test leaves the machine's network as it found it."""

import time
from collections.abc import Iterator

import pytest

from tests.integration.networks.scenes import machine

_PATIENCE_S = 5.0


@pytest.fixture(autouse=True)
def _nothing_left(network_of_the_tests: None) -> Iterator[None]:
    """Fail where a device, an address, a route or a table has stayed."""
    before = machine()
    yield
    deadline = time.monotonic() + _PATIENCE_S
    while (now := machine()) != before and time.monotonic() < deadline:
        time.sleep(0.05)  # namespaces take their interfaces with them in their own time
    assert now == before
