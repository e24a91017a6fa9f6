"""An engine for each module, and a look at what every test leaves of it."""

from collections.abc import Iterator

import pytest

from tests.integration.kills.remains import adopting_orphans
from tests.integration.kills.scene import Scene, opened


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A running engine, with a container that counts."""
    with adopting_orphans(), opened(tmp_path_factory.mktemp("f")) as scene:
        yield scene


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a request that failed has left anything at all, before any tidying up."""
    if "scene" not in request.fixturenames:
        yield
        return
    scene: Scene = request.getfixturevalue("scene")
    yield
    left = [*scene.all(), *(one["Id"] for one in scene.docker.ok("GET", "/images/json"))]
    for one in scene.docker.ok("GET", "/images/json"):
        scene.docker.ok("DELETE", f"/images/{one['Id']}?force=1")
    scene.nothing_left(request.node.name)
    assert left == []
