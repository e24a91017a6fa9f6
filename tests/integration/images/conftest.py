"""A store to download into, and a clock that does not sleep."""

from pathlib import Path

import pytest

from orlop.store.content import Content
from tests.integration.images import samples
from tests.integration.images.downloads import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return samples.store(tmp_path / "content")
