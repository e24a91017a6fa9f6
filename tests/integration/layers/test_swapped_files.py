"""Folders that a container shares: what it swaps meanwhile leads to no file of the host."""

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.layers import transfer
from orlop.layers.copy import copy_folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file of the host that only its owner may read."""
    file = tmp_path / "outside"
    file.touch(0o600)
    return file


def swap_each_new_file(monkeypatch: pytest.MonkeyPatch, outside: Path) -> None:
    """Have a link to *outside* take the place of each special file as soon as its owner is set."""
    chown = os.chown

    def and_swap(name: str | bytes, uid: int, gid: int, *, dir_fd: int, **more: bool) -> None:
        chown(name, uid, gid, dir_fd=dir_fd, **more)
        os.unlink(name, dir_fd=dir_fd)
        os.symlink(outside, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "chown", and_swap)


def fifo_archive() -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        fifo = tarfile.TarInfo("swapped")
        fifo.type, fifo.mode = tarfile.FIFOTYPE, 0o666
        tar.addfile(fifo)
    data.seek(0)
    return data


def unpacked(folder: Path) -> None:
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        transfer.write(root, "/", fifo_archive())
    finally:
        os.close(root)


def copied(folder: Path) -> None:
    image = folder.parent / "image"
    image.mkdir()
    (image / "swapped").touch()
    (image / "swapped").chmod(0o666)
    source = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    target = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        copy_folder(source, "/", target)
    finally:
        os.close(target)
        os.close(source)


@pytest.mark.parametrize("write", [unpacked, copied])
def test_a_new_file_that_is_swapped_for_a_link_changes_no_mode_of_the_host(
    write: Callable[[Path], None], tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    swap_each_new_file(monkeypatch, outside)
    with pytest.raises(OSError, match="symbolic link"):
        write(shared)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600


def test_a_file_that_becomes_a_device_while_it_is_copied_out_is_left_out_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in ("file", "other"):
        (folder / name).write_text("text")
    listxattr = os.listxattr

    def and_swap(path: str, **more: bool) -> list[str]:
        if path.endswith("/file") and (folder / "file").is_file():
            (folder / "file").unlink()
            os.mknod(folder / "file", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        return listxattr(path, **more)

    monkeypatch.setattr(os, "listxattr", and_swap)
    out = io.BytesIO()
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        transfer.read(root, "/", out)
    finally:
        os.close(root)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert [name.strip("/.") for name in tar.getnames()] == ["", "other"]
