"""Tars that are no layers, and folders copied out of an image."""

import io
import os
import tempfile
from pathlib import Path

from orlop.layers.apply import Unpacker
from orlop.layers.budget import Account, Budget
from orlop.layers.copy import copy_folder
from orlop.layers.tar import TarReader
from tests.crafting import add, layer
from tests.trees import differences, tree


def test_names_like_whiteouts_are_names_in_a_tar_that_is_no_layer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    unpacker = Unpacker(fd, Account(Budget()), flat=True, whiteouts=False)
    reader = TarReader(io.BytesIO(layer(lambda tar: add(tar, ".wh.file", data=b"x"))))
    for entry in reader:
        unpacker.take(entry, reader)
    unpacker.finish()
    unpacker.close()
    os.close(fd)
    assert sorted(os.listdir(tmp_path)) == [".wh.file", "file"]


def make_source(root: Path) -> Path:
    data = root / "image" / "data"
    (data / "inner").mkdir(parents=True)
    (data / "inner" / "file").write_bytes(b"x" * 100_000)
    with open(data / "holes", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"in the middle")
    os.link(data / "inner" / "file", data / "same")
    os.symlink("/etc/passwd", data / "link")
    os.mkfifo(data / "fifo")
    os.chown(data, 5, 6)
    data.chmod(0o2750)
    os.setxattr(data / "same", "user.note", b"\0")
    return data


def copied(root: int, path: str, target: Path) -> None:
    into = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        copy_folder(root, path, into)
    finally:
        os.close(into)


def test_copied_folder_is_the_same_in_all_respects(tmp_path: Path) -> None:
    data = make_source(tmp_path)
    (tmp_path / "volume").mkdir()
    root = os.open(tmp_path / "image", os.O_RDONLY | os.O_DIRECTORY)
    try:
        copied(root, "/data", tmp_path / "volume")
        copied(root, "/missing", tmp_path / "volume")
        copied(root, "/data/same", tmp_path / "volume")
    finally:
        os.close(root)
    assert differences(tree(tmp_path / "volume"), tree(data)) == []
    assert (tmp_path / "volume" / "holes").stat().st_blocks * 512 < 1 << 20


def test_copy_between_kinds_of_file_systems_keeps_data_and_holes(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        source = Path(memory) / "data"
        source.mkdir()
        with (source / "holes").open("wb") as file:
            file.truncate(1 << 24)
            file.seek(1 << 23)
            file.write(b"in the middle")
        (source / "file").write_bytes(os.urandom(3 << 20))
        (tmp_path / "volume").mkdir()
        root = os.open(memory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            copied(root, "/data", tmp_path / "volume")
        finally:
            os.close(root)
        assert differences(tree(tmp_path / "volume"), tree(source)) == []
        assert (tmp_path / "volume" / "holes").stat().st_blocks * 512 < 1 << 20


def test_copy_cannot_be_led_out_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").touch()
    (tmp_path / "volume").mkdir()
    os.symlink("../secret", tmp_path / "image" / "up")
    os.symlink(tmp_path / "secret", tmp_path / "image" / "away")
    root = os.open(tmp_path / "image", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path in ("/up", "/away", "/../secret"):
            copied(root, path, tmp_path / "volume")
    finally:
        os.close(root)
    assert os.listdir(tmp_path / "volume") == []
