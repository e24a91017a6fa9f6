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
    mounts = Path("/proc/self/mountinfo").read_text()
    yield made
    made.close()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    left = [str(p) for p in Path("/sys/fs/cgroup").glob(f"*/orlop/{made.id}")]
    assert left == []
