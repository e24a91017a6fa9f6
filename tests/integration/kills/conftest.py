"""An engine for each module, whose every process comes back to us."""

from collections.abc import Iterator

import pytest

from tests.integration.kills.remains import adopting_orphans
from tests.integration.kills.scene import Scene, opened


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A running engine, with a container that counts."""
    with adopting_orphans(), opened(tmp_path_factory.mktemp("k")) as scene:
        yield scene
