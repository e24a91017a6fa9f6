from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Shim


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    shim = Shim(tmp_path)
    yield shim
    shim.close()
