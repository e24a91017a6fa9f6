"""Archives made to write outside of the root, or to fill the machine. CVE-2021-32760 and kin."""

import io
import os
import struct
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import CorruptError, ExhaustedError
from orlop.layers.apply import Applied, apply
from orlop.layers.budget import Budget
from orlop.layers.header import Entry
from orlop.layers.write import TarWriter
from orlop.snapshots.erofs import Erofs
from orlop.snapshots.interface import layer_key
from tests.crafting import add, digest, layer
from tests.trees import tree

FOLDER, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
Fill = Callable[[tarfile.TarFile, str], None]


def dots(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "../outside/new", data=b"bad")
    add(tar, "a/../../outside/secret", data=b"bad")
    add(tar, "../" * 40 + outside + "/new", data=b"bad")


def absolute(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, f"{outside}/new", data=b"bad")
    add(tar, f"{outside}/secret", data=b"bad")


def through_absolute_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "link", SYMLINK, linkname=outside)
    add(tar, "link/new", data=b"bad")
    add(tar, "link/secret", data=b"bad")


def through_relative_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "deep", FOLDER)
    add(tar, "deep/link", SYMLINK, linkname="../../outside")
    add(tar, "deep/link/new", data=b"bad")
    add(tar, "deep/link/folder/inside", data=b"bad")


def through_two_links(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "one", SYMLINK, linkname="..")
    add(tar, "two", SYMLINK, linkname="one/outside")
    add(tar, "two/new", data=b"bad")


def over_a_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "link", SYMLINK, linkname=f"{outside}/secret")
    add(tar, "link", data=b"bad")


def folder_over_a_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "link", SYMLINK, linkname=outside)
    add(tar, "link", FOLDER, mode=0o777, uid=1000, gid=1000)


def folder_becomes_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "folder", FOLDER)
    add(tar, "folder/first", data=b"good")
    add(tar, "folder", SYMLINK, linkname=outside)
    add(tar, "folder/new", data=b"bad")
    add(tar, "folder/secret", data=b"bad")


def parent_becomes_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "a", FOLDER)
    add(tar, "a/outside", FOLDER)
    add(tar, "a/outside/first", data=b"good")
    add(tar, "a", SYMLINK, linkname="..")
    add(tar, "a/outside/new", data=b"bad")


def folder_times_through_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "a", FOLDER)
    add(tar, "a/outside", FOLDER, mtime=1)
    add(tar, "a", SYMLINK, linkname="..")


def hard_link_to_outside(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "link", LINK, linkname=f"{outside}/secret")
    add(tar, "link", data=b"bad")


def hard_link_up(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "link", LINK, linkname="../outside/secret")


def hard_link_through_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "way", SYMLINK, linkname=outside)
    add(tar, "link", LINK, linkname="way/secret")


def hard_link_of_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "way", SYMLINK, linkname=f"{outside}/secret")
    add(tar, "link", LINK, linkname="way")
    add(tar, "link", data=b"bad")


def chmod_through_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "way", SYMLINK, linkname=f"{outside}/secret", mode=0o777, uid=1000)
    add(tar, "way2", SYMLINK, linkname=outside, mode=0o777, uid=1000, mtime=1)


def whiteout_through_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "way", SYMLINK, linkname=outside)
    add(tar, "way/.wh.secret")
    add(tar, "way/.wh.folder")


def whiteout_up(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "../outside/.wh.secret")


def opaque_through_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "way", SYMLINK, linkname=outside)
    add(tar, "way/.wh..wh..opq")


def whiteout_of_the_parent(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, ".wh...")


def whiteout_of_itself(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "folder/.wh..")


def whiteout_of_nothing(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "folder/.wh.")


def device_and_fifo_through_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "way", SYMLINK, linkname=outside)
    add(tar, "way/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    add(tar, "way/fifo", tarfile.FIFOTYPE)


def xattr_through_link(tar: tarfile.TarFile, outside: str) -> None:
    pax = {"SCHILY.xattr.trusted.bad": "1"}
    add(tar, "way", SYMLINK, linkname=f"{outside}/secret", pax_headers=pax)


def magic_link(tar: tarfile.TarFile, outside: str) -> None:
    add(tar, "proc", SYMLINK, linkname="/proc/self/root")
    add(tar, f"proc{outside}/new", data=b"bad")
    add(tar, "cwd", SYMLINK, linkname="/proc/self/cwd")
    add(tar, "cwd/new", data=b"bad")


ESCAPES: list[Fill] = [
    dots,
    absolute,
    through_absolute_link,
    through_relative_link,
    through_two_links,
    over_a_link,
    folder_over_a_link,
    folder_becomes_link,
    parent_becomes_link,
    folder_times_through_link,
    hard_link_to_outside,
    hard_link_up,
    hard_link_through_link,
    hard_link_of_link,
    chmod_through_link,
    whiteout_through_link,
    whiteout_up,
    opaque_through_link,
    whiteout_of_the_parent,
    whiteout_of_itself,
    whiteout_of_nothing,
    device_and_fifo_through_link,
    xattr_through_link,
    magic_link,
]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "folder").mkdir(parents=True)
    (folder / "folder" / "inside").write_bytes(b"theirs")
    (folder / "secret").write_bytes(b"secret")
    return folder


def unpack(data: bytes, root: Path, *, flat: bool = False) -> Applied:
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return apply(io.BytesIO(data), fd, flat=flat)
    finally:
        os.close(fd)


@pytest.mark.parametrize("flat", [False, True], ids=["layer", "flat"])
@pytest.mark.parametrize("fill", ESCAPES, ids=lambda fill: fill.__name__)
def test_nothing_outside_the_root_changes(
    fill: Fill, outside: Path, tmp_path: Path, *, flat: bool
) -> None:
    before, around = tree(outside), os.listdir(tmp_path)
    with suppress(CorruptError):
        unpack(layer(lambda tar: fill(tar, str(outside))), tmp_path / "root", flat=flat)
    assert tree(outside) == before
    assert set(os.listdir(tmp_path)) - set(around) == {"root"}


@pytest.mark.parametrize("fill", ESCAPES, ids=lambda fill: fill.__name__)
def test_nothing_outside_the_root_shows_in_an_erofs_layer(
    fill: Fill, outside: Path, tmp_path: Path
) -> None:
    data = layer(lambda tar: fill(tar, str(outside)))
    key = layer_key(digest(data))
    driver = Erofs(str(tmp_path / "driver"))
    before = tree(outside)
    with suppress(CorruptError):
        driver.add_layer(key, io.BytesIO(data))
    assert tree(outside) == before
    assert os.listdir(tmp_path / "driver" / "staging") == []


def test_links_on_the_way_lead_to_places_in_the_root(tmp_path: Path, outside: Path) -> None:
    unpack(layer(lambda tar: through_absolute_link(tar, "/there")), tmp_path / "root")
    assert (tmp_path / "root/there/new").read_bytes() == b"bad"


@pytest.mark.parametrize("fill", [whiteout_of_the_parent, whiteout_of_itself, whiteout_of_nothing])
def test_whiteout_of_no_name_is_refused(fill: Fill, tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="whiteout"):
        unpack(layer(lambda tar: fill(tar, "")), tmp_path / "root")


@pytest.mark.parametrize(
    "name", ["trusted.overlay.opaque", "trusted.overlay.redirect", "security.selinux"]
)
def test_marks_that_only_the_host_may_set_are_dropped(name: str, tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "folder", FOLDER, pax_headers={f"SCHILY.xattr.{name}": "y"})
        add(tar, "file", pax_headers={f"SCHILY.xattr.{name}": "y"})

    unpack(layer(fill), tmp_path / "root")
    assert os.listxattr(tmp_path / "root/folder") == os.listxattr(tmp_path / "root/file") == []


def test_file_longer_than_the_limit_is_refused_though_it_is_sparse(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = TarWriter(out)
    writer.add(Entry(b"bomb", b"0", 0o644, 0, 0, 0, 0, 0, b"", 0, 0))
    header = bytearray(out.getvalue()[:512])
    header[156:157] = b"S"
    header[257:265] = b"ustar  \0"
    header[483:495] = struct.pack(">I", 0x80000000) + struct.pack(">Q", 1 << 50)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ExhaustedError, match="a file of more than"):
        unpack(bytes(header), tmp_path / "root")


@pytest.mark.parametrize(
    "name", ["n" * 256, "n" * 5000, "d/" * 3000 + "x", "file/below", "", "/", ".", "a\0b/c"]
)
def test_name_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "file", data=b"x")
        add(tar, "x", data=b"x", pax_headers={"path": name})

    with pytest.raises(CorruptError):
        unpack(layer(fill), tmp_path / "root")


@pytest.mark.parametrize(
    "fields", [{"uid": 1 << 40}, {"gid": -5}, {"devmajor": 0o7777777}, {"devminor": 0o7777777}]
)
def test_number_that_the_kernel_cannot_take_is_refused(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CorruptError):
        unpack(layer(lambda tar: add(tar, "x", tarfile.CHRTYPE, **fields)), tmp_path / "root")


def test_deepest_possible_tree_is_made_and_removed_again(tmp_path: Path) -> None:
    deep = "d/" * 2000
    driver = Erofs(str(tmp_path))

    def fill(tar: tarfile.TarFile) -> None:
        add(tar, deep + "x", data=b"x")
        add(tar, "d", data=b"a file instead")

    data = layer(fill)
    budget = Budget(depth=2000)
    driver.add_layer(layer_key(digest(data)), io.BytesIO(data), budget=budget)
    driver.remove_layer(layer_key(digest(data)))
    assert driver.collect() == 1


def test_hard_link_to_a_link_is_another_name_of_the_link(tmp_path: Path, outside: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "way", SYMLINK, linkname=f"{outside}/secret")
        add(tar, "link", LINK, linkname="way")

    unpack(layer(fill), tmp_path / "root")
    assert (tmp_path / "root/link").readlink() == outside / "secret"
    assert (outside / "secret").stat().st_nlink == 1


def test_folder_that_became_a_link_is_followed_where_it_now_leads(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "there", FOLDER)
        add(tar, "here", FOLDER)
        add(tar, "here/first", data=b"gone with its folder")
        add(tar, "here", SYMLINK, linkname="there")
        add(tar, "here/second", data=b"x")

    unpack(layer(fill), tmp_path / "root")
    assert os.listdir(tmp_path / "root/there") == ["second"]
