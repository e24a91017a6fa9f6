import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orlop.model.oci import Resources
from orlop.runtime import cgroups
from orlop.runtime.cgroups import Cgroup
from orlop.runtime.cgroups.layout import Layout, detect

Make = Callable[..., Cgroup]


@pytest.fixture
def parent() -> Iterator[str]:
    """A cgroup path that is ours; whatever is below it is killed and removed at the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = f"/orlop-test-{uuid.uuid4().hex[:8]}"
    yield path
    left = cgroups.open(path)
    left.kill()
    left.remove()
    for hierarchy in detect().hierarchies:
        assert not Path(hierarchy.mountpoint + path).exists()


@pytest.fixture(params=["host", "v1 alone", "v2 alone"])
def layout(request: pytest.FixtureRequest) -> Layout:
    """This host's layout, and each half of it where it is a hybrid one."""
    host = detect()
    if request.param == "host":
        return host
    if host.mode != "hybrid":
        pytest.skip("needs hybrid cgroups")
    if request.param == "v1 alone":
        return Layout(host.v1, None)
    assert host.unified is not None
    # Controllers of the root are not ours to hand down here.
    return Layout((), host.unified._replace(controllers=frozenset()))


@pytest.fixture
def make(parent: str, layout: Layout) -> Make:
    def make_one(resources: Resources | None = None, name: str = "one") -> Cgroup:
        return cgroups.create(f"{parent}/{name}", resources or {}, layout=layout)

    return make_one


@pytest.fixture
def host_make(parent: str) -> Make:
    """Make cgroups in the layout that this host has."""

    def make_one(resources: Resources | None = None, name: str = "one") -> Cgroup:
        return cgroups.create(f"{parent}/{name}", resources or {})

    return make_one


@contextlib.contextmanager
def nothing_left(path: str) -> Iterator[None]:
    yield
    assert [h.mountpoint for h in detect().hierarchies if Path(h.mountpoint + path).exists()] == []
