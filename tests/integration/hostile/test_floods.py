"""Small images that ask for much: refused in one sentence, or unpacked at no one else's cost."""

import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from tests import crafting
from tests.crafting import add
from tests.integration.hostile.conftest import Hostile

_MOST_GROWTH_KIB = 64 << 10


def deep(number: int) -> Callable[[tarfile.TarFile], None]:
    """Ask for 10,000 folders that nobody describes, with other files in them for each *number*."""

    def fill(tar: tarfile.TarFile) -> None:
        for entry in range(50):
            add(tar, f"{entry}/" + "d/" * 200 + f"x{number}")

    return fill


def deeper_than_allowed(tar: tarfile.TarFile) -> None:
    for entry in range(300):
        add(tar, f"{entry}" + "/d" * 2000, tarfile.DIRTYPE)


def engine_memory_kib(hostile: Hostile) -> int:
    """Return the most memory that the engine's process has had."""
    pid = (hostile.engine.run / "engine.lock").read_text().strip()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def test_layer_of_a_few_kilobytes_that_asks_for_600_000_folders_is_refused(
    hostile: Hostile, tmp_path: Path
) -> None:
    layers = [crafting.layer(crafting.busybox), crafting.layer(deeper_than_allowed)]
    archive = crafting.docker_archive(tmp_path / "flood.tar", "flood:1", layers, None)
    done = hostile.engine.docker("load", "-q", "-i", str(archive), check=False)
    assert done.returncode == 1
    assert "layer needs files deeper than 256 folders" in done.stderr
    assert "depth in ORLOP_LAYER_BUDGET" in done.stderr
    assert hostile.engine.out("images", "-q", "flood") == ""
    (staging,) = hostile.engine.root.glob("snapshots/*/staging")
    deadline = time.monotonic() + 30
    while os.listdir(staging):  # of the layer below, which was no longer wanted
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_image_of_many_deep_layers_costs_the_engine_no_memory(hostile: Hostile) -> None:
    hostile.run(hostile.image(), "true")
    before = engine_memory_kib(hostile)
    said = hostile.run(hostile.image(*map(deep, range(12))), "echo", "runs")
    assert said == "runs\n"
    assert engine_memory_kib(hostile) - before < _MOST_GROWTH_KIB


def test_image_of_more_layers_than_can_be_mounted_is_refused_before_it_is_unpacked(
    hostile: Hostile, tmp_path: Path
) -> None:
    def numbered(number: int) -> bytes:
        return crafting.layer(lambda tar: add(tar, f"{number}"))

    archive = crafting.docker_archive(
        tmp_path / "many.tar", "many:1", [numbered(number) for number in range(500)], None
    )
    before = set(hostile.engine.root.glob("snapshots/*/layers/*"))
    done = hostile.engine.docker("load", "-q", "-i", str(archive), check=False)
    assert done.returncode == 1
    assert "image has 500 layers, more than 498" in done.stderr
    assert set(hostile.engine.root.glob("snapshots/*/layers/*")) <= before
