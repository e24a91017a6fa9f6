import os
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.integration.network.contract")

from tests.integration.network.lab import World, fresh_world  # noqa: E402 after the above


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "integration/network/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def world() -> Iterator[World]:
    """A host of its own: a network namespace that this thread is in meanwhile."""
    with fresh_world() as made:
        yield made
