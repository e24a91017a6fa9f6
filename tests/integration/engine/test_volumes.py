"""Volumes whose folders a container has nested deeply."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.layers.removal import remove_tree
from orlop.model.container import MountPoint
from tests.integration.engine.harness import run, shell, with_engine

_DEPTH = 3000  # more than Python recurses


@pytest.fixture(autouse=True)
def _usual_number_of_files(tmp_path: Path) -> Iterator[None]:
    """Let this process open as many files as a login may; remove what no rmtree() can."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    remove_tree(os.fspath(tmp_path / "root"))


def nest(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(_DEPTH):
        os.mkdir("a", dir_fd=fd)
        inner = os.open("a", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def test_volumes_of_any_depth_are_removed(tmp_path: Path) -> None:
    volumes = tmp_path / "root" / "volumes"

    async def work(engine: Engine) -> None:
        volume = MountPoint(type="volume", target="/v", source="data")
        ref = await run(engine, shell("true", mounts=(volume,)))
        nest(volumes / "data" / "_data")
        await engine.system.disk_usage()
        await engine.containers.remove(ref)
        await engine.volumes.remove("data")
        assert os.listdir(volumes) == []

    with_engine(tmp_path, work)


def test_an_engine_starts_where_a_deep_volume_was_left(tmp_path: Path) -> None:
    volumes = tmp_path / "root" / "volumes"
    (volumes / "left").mkdir(parents=True)
    nest(volumes / "left")

    async def work(_: Engine) -> None:
        assert os.listdir(volumes) == []

    with_engine(tmp_path, work)
