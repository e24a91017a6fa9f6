"""Small layers that ask for much: each budget is checked while the layer streams by."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.errors import ExhaustedError
from orlop.layers.apply import apply
from orlop.layers.budget import Budget
from orlop.snapshots.choose import open_driver
from orlop.snapshots.interface import layer_key
from tests.crafting import add, digest, layer

Fill = Callable[[tarfile.TarFile], None]
FOLDER, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


def deep(tar: tarfile.TarFile) -> None:
    """Three hundred entries of some 40 bytes once compressed; 600,000 folders."""
    for number in range(300):
        add(tar, f"{number}" + "/d" * 2000, FOLDER)


def deep_step_by_step(tar: tarfile.TarFile) -> None:
    for depth in range(1, 400):
        add(tar, "d/" * depth, FOLDER)


def deep_by_links(tar: tarfile.TarFile) -> None:
    """No name is deep, but each link leads deeper."""
    add(tar, "l0/" + "d/" * 100, FOLDER)
    for number in range(1, 8):
        add(tar, f"l{number}", SYMLINK, linkname=f"l{number - 1}/" + "d/" * 100)
        add(tar, f"l{number}/" + "d/" * 100, FOLDER)


def implied(tar: tarfile.TarFile) -> None:
    for number in range(30):
        add(tar, f"{number}" + "/d" * 40 + "/x")


def many(tar: tarfile.TarFile) -> None:
    for number in range(1200):
        add(tar, f"{number}")


def same_name_again(tar: tarfile.TarFile) -> None:
    for _ in range(1200):
        add(tar, "x")


def large(tar: tarfile.TarFile) -> None:
    for number in range(4):
        add(tar, f"{number}", data=bytes(1 << 20))


def large_tail(tar: tarfile.TarFile) -> None:
    add(tar, "x")
    assert tar.fileobj is not None
    tar.fileobj.write(bytes(4 << 20))


def large_marks(tar: tarfile.TarFile) -> None:
    for number in range(1000):
        add(tar, f"{number}", pax_headers={"SCHILY.xattr.user.x": "x" * 3000})


def long_names(tar: tarfile.TarFile) -> None:
    for number in range(100):
        add(tar, f"{number:0255}")


FEW = Budget(entries=1000)
SMALL = Budget(bytes=3 << 20)
SHORT = Budget(path_bytes=20_000)
CASES: dict[str, tuple[Fill, Budget, str]] = {
    "deep": (deep, Budget(), "deeper than 256 folders"),
    "deep step by step": (deep_step_by_step, Budget(), "deeper than 256 folders"),
    "deep by links": (deep_by_links, Budget(), "deeper than 256 folders"),
    "implied": (implied, FEW, "more than 1,000 files and folders"),
    "many": (many, FEW, "more than 1,000 files and folders"),
    "same name": (same_name_again, FEW, "more than 1,000 files and folders"),
    "large": (large, SMALL, "more than 3,145,728 bytes"),
    "large tail": (large_tail, SMALL, "more than 3,145,728 bytes"),
    "large marks": (large_marks, SMALL, "more than 3,145,728 bytes"),
    "long names": (long_names, SHORT, "names of more than 20,000 bytes"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("driver_name", ["erofs", "overlay", "native"])
def test_layer_beyond_a_budget_is_refused_by_name_and_leaves_nothing(
    name: str, driver_name: str, tmp_path: Path
) -> None:
    fill, budget, said = CASES[name]
    data = layer(fill)
    driver = open_driver(str(tmp_path), driver_name)
    with pytest.raises(ExhaustedError, match=said):
        driver.add_layer(layer_key(digest(data)), io.BytesIO(data), budget=budget)
    assert driver.layers() == set()
    assert os.listdir(tmp_path / driver_name / "staging") == []


def test_refused_layer_has_made_no_more_than_its_budget(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(ExhaustedError):
            apply(io.BytesIO(layer(implied)), fd, budget=FEW)
    finally:
        os.close(fd)
    made = sum(len(folders) + len(files) for _, folders, files in os.walk(tmp_path))
    assert made <= FEW.entries


@pytest.mark.parametrize("driver_name", ["erofs", "overlay", "native"])
def test_layer_within_its_budget_is_taken(driver_name: str, tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "d/" * 250 + "x", data=b"x")
        for number in range(500):
            add(tar, f"{number}", data=b"x")

    data = layer(fill)
    driver = open_driver(str(tmp_path), driver_name)
    budget = Budget(entries=1000, path_bytes=100_000, bytes=4 << 20)
    driver.add_layer(layer_key(digest(data)), io.BytesIO(data), budget=budget)
    assert driver.layers() == {layer_key(digest(data))}
