"""What costs time before a container has a root is done beside the engine's event loop."""

import asyncio
import shutil
import tarfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orlop.engine.engine import Engine
from orlop.engine.settings import Settings
from orlop.errors import ExhaustedError
from orlop.layers.budget import Budget
from orlop.model.container import ContainerOptions
from orlop.snapshots.native import Native
from orlop.snapshots.overlay import Overlay
from orlop.snapshots.unpacked import UnpackedLayers
from tests import crafting
from tests.crafting import add
from tests.integration.engine.harness import end_shim, output, run

OPTIONS = ContainerOptions(image="stack", command=("stat", "-c", "%a", "/mended"))


def below(tar: tarfile.TarFile) -> None:
    add(tar, "mended", tarfile.DIRTYPE, mode=0o711)


def above(tar: tarfile.TarFile) -> None:
    """Put something in a folder without a word on what the folder is like."""
    add(tar, "mended/file", data=b"x")


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[Engine]:
    settings = Settings(root=folder / "root", run=folder / "run", **options)
    try:
        async with Engine.open(settings) as engine:
            try:
                yield engine
            finally:
                for container in engine.containers.list(all=True):
                    await engine.containers.remove(container.id, force=True)
    finally:
        end_shim(folder)


async def load(engine: Engine, folder: Path) -> None:
    layers = [crafting.layer(fill) for fill in (crafting.busybox, below, above)]
    archive = crafting.docker_archive(folder / "image.tar", "stack:latest", layers, {})

    async def pieces() -> AsyncIterator[bytes]:
        yield archive.read_bytes()

    await engine.images.load(pieces(), progress=lambda _: None)


def not_here(*_: object) -> None:
    raise AssertionError("layers were stacked in the engine's own process")


@pytest.mark.parametrize("driver", ["erofs", "overlay", "native"])
def test_layers_are_stacked_by_a_worker(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with opened(tmp_path, snapshotter=driver) as engine:
            await load(engine, tmp_path)
            container = await run(engine, OPTIONS)
            assert await output(engine, container) == "711\n"

    for kind in (Overlay, Native):
        monkeypatch.setattr(kind, "_lay", not_here)
    asyncio.run(work())


def test_stack_that_a_reboot_took_is_made_again_for_a_container_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with opened(tmp_path, snapshotter="overlay") as engine:
            await load(engine, tmp_path)
            container = await run(engine, OPTIONS)
            shutil.rmtree(tmp_path / "root/snapshots/overlay/patches")
            (tmp_path / "root/snapshots/overlay/patches").mkdir()
            snapshots = engine._context.snapshots
            assert isinstance(snapshots, UnpackedLayers)
            snapshots._stacks.clear()
            await engine.containers.start(container)
            assert (await engine.containers.wait(container)).exit_code == 0

    monkeypatch.setattr(Overlay, "_lay", not_here)
    asyncio.run(work())


def test_snapshots_that_are_copies_are_made_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Native.prepare
    threads: list[threading.Thread] = []

    def seen(*arguments: Any, **options: Any) -> None:
        threads.append(threading.current_thread())
        prepare(*arguments, **options)

    async def work() -> None:
        async with opened(tmp_path, snapshotter="native") as engine:
            await load(engine, tmp_path)
            await run(engine, OPTIONS)

    monkeypatch.setattr(Native, "prepare", seen)
    asyncio.run(work())
    assert threads
    assert threading.main_thread() not in threads


def test_image_whose_stack_costs_more_than_the_budget_is_refused_and_not_named(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        budget = Budget(processor_s=0)
        async with opened(tmp_path, snapshotter="overlay") as engine:
            object.__setattr__(engine._context.settings, "layer_budget", budget)
            with pytest.raises(ExhaustedError, match="processor time"):
                await load(engine, tmp_path)
            assert await engine.images.list() == []

    asyncio.run(work())
