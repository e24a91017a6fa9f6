import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program, cgroups


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """`orlop-runtime` as root; nothing of its containers may be left."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Program(tmp_path)
    yield made
    made.close()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert cgroups(made.ids) == []


@pytest.fixture
def bundle(tmp_path: Path) -> OCIBundle:
    return OCIBundle(tmp_path / "bundle")
