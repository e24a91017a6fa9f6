"""Each test has a world to reach, and takes it away before the network is looked at."""

from collections.abc import Iterator

import pytest

from tests.integration.networks.egress.world import World, world


@pytest.fixture
def outside(_nothing_left: None) -> Iterator[World]:
    with world() as made:
        yield made
