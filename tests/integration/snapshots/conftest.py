import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "integration/snapshots" in str(item.path) or "integration/layers" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="needs root"))
