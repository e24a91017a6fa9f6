"""Spare cgroups: taken by renaming, and never left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.errors import InvalidArgumentError
from orlop.model.oci import Resources
from orlop.runtime import cgroups
from orlop.runtime.cgroups.layout import detect
from orlop.runtime.cgroups.pools import SpareCgroups, sweep
from tests.integration.cgroups.members import run_inside
from tests.integration.cgroups.test_cgroup_limits_kernel import RULES, try_devices, value

WANTED: Resources = {"devices": RULES, "pids": {"limit": 7}}


@pytest.fixture
def pool(parent: str) -> Iterator[SpareCgroups]:
    if not detect().v1:
        pytest.skip("needs cgroup v1")
    made = SpareCgroups(parent, size=2)
    assert made.take(f"{parent}/first", WANTED) is None  # tells it the rules
    while made.pool.refill():
        pass
    yield made
    made.pool.close()
    assert names(parent) == set()


def names(parent: str) -> set[str]:
    places = (Path(f"{h.mountpoint}{parent}") for h in detect().hierarchies)
    return {p.name for place in places if place.exists() for p in place.iterdir() if p.is_dir()}


def inodes(parent: str, name: str) -> list[int]:
    places = (Path(f"{h.mountpoint}{parent}/{name}") for h in detect().v1)
    return [place.stat().st_ino for place in places if place.exists()]


def test_a_spare_becomes_the_cgroup(pool: SpareCgroups, parent: str) -> None:
    spares = {name: inodes(parent, name) for name in names(parent)}
    assert len(spares) == 2
    cgroup = pool.take(f"{parent}/one", WANTED)
    assert cgroup is not None
    assert inodes(parent, "one") in spares.values()
    assert value(cgroup, "pids.max") == "7"
    assert run_inside(cgroup, try_devices) == 1
    cgroup.remove()


def test_it_is_as_good_as_one_made_at_once(pool: SpareCgroups, parent: str) -> None:
    cgroup = pool.take(f"{parent}/one", WANTED)
    assert cgroup is not None
    assert all(os.path.isdir(path) for path in cgroup.directories.values())
    assert set(cgroup.directories) == set(cgroups.open(f"{parent}/one").directories)
    cgroup.remove()


def test_other_device_rules_do_not_get_spares_with_these(pool: SpareCgroups, parent: str) -> None:
    assert pool.take(f"{parent}/one", {"devices": []}) is None
    assert names(parent) == set()


def test_a_spare_that_somebody_removed_is_done_without(pool: SpareCgroups, parent: str) -> None:
    for hierarchy in detect().v1:
        for name in os.listdir(hierarchy.mountpoint + parent):
            if os.path.isdir(place := f"{hierarchy.mountpoint}{parent}/{name}"):
                os.rmdir(place)
    assert pool.take(f"{parent}/one", WANTED) is None
    assert names(parent) == set()


def test_another_parent_gets_none(pool: SpareCgroups, parent: str) -> None:
    assert pool.take(f"{parent}-other/one", WANTED) is None


def test_a_limit_that_is_refused_leaves_nothing(pool: SpareCgroups, parent: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cpu\.cpus"):
        pool.take(f"{parent}/one", {**WANTED, "cpu": {"cpus": "x"}})
    assert "one" not in names(parent)


def test_a_name_that_is_taken_is_left_alone(pool: SpareCgroups, parent: str) -> None:
    there = cgroups.create(f"{parent}/one", {"pids": {"limit": 3}})
    assert pool.take(f"{parent}/one", WANTED) is None
    assert value(there, "pids.max") == "3"
    there.remove()


def test_spares_of_the_dead_are_swept(pool: SpareCgroups, parent: str) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    cgroups.create(f"{parent}/.spare-{pid}-0", {})
    mine = names(parent) - {f".spare-{pid}-0"}
    sweep(parent)
    assert names(parent) == mine
