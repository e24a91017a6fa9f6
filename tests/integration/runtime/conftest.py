import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.box import Box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Box(tmp_path)
    yield made
    made.close()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    left = [str(p) for p in Path("/sys/fs/cgroup").glob(f"*/orlop/{made.id}")]
    assert left == []
