from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.vxlan.hosts import Underlay


@pytest.fixture
def underlay(tmp_path: Path) -> Iterator[Underlay]:
    made = Underlay(tmp_path)
    yield made
    made.close()
