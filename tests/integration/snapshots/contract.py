"""What every snapshot driver does. A driver's own test is a subclass and a fixture."""

import errno
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
)
from orlop.layers.diff import ChangeKind
from orlop.snapshots.interface import LayerKey, Snapshots, layer_key
from orlop.snapshots.view import open_root
from tests.crafting import TIME_S, add, digest, layer
from tests.trees import differences, tree

FOLDER, WHITEOUT = tarfile.DIRTYPE, tarfile.REGTYPE


def put(driver: Snapshots, *layers: bytes) -> list[LayerKey]:
    """Add the layers and return their keys."""
    keys = [layer_key(digest(data)) for data in layers]
    for key, data in zip(keys, layers, strict=True):
        driver.add_layer(key, io.BytesIO(data))
    return keys


@contextmanager
def root_of(
    driver: Snapshots, name: str, layers: Sequence[LayerKey], *, readonly: bool = False
) -> Iterator[Path]:
    """The snapshot's root, for as long as the context lasts, mounted nowhere."""
    fd = open_root(driver.mounts(name, layers, readonly=readonly))
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def lower(tar: tarfile.TarFile) -> None:
    add(tar, "etc", FOLDER)
    add(tar, "etc/kept", data=b"kept")
    add(tar, "etc/gone", data=b"gone")
    add(tar, "old", FOLDER)
    add(tar, "old/inside", data=b"hidden")
    add(tar, "tmp", FOLDER, mode=0o1777, mtime=TIME_S + 5)
    add(tar, "home", FOLDER, mode=0o750, uid=7, gid=8)
    add(tar, "home/user", FOLDER, mode=0o700, uid=1000, gid=1000)


def upper(tar: tarfile.TarFile) -> None:
    add(tar, "etc", FOLDER)
    add(tar, "etc/.wh.gone")
    add(tar, "etc/new", data=b"new", mode=0o4755)
    add(tar, "old", FOLDER)
    add(tar, "old/.wh..wh..opq")
    add(tar, "old/fresh", data=b"fresh")


class SnapshotsContract:
    """*driver* is the fixture of a subclass."""

    def test_layers_show_through_whiteouts_hide_and_opaque_folders_begin_anew(
        self, driver: Snapshots
    ) -> None:
        keys = put(driver, layer(lower), layer(upper))
        driver.prepare("one", keys)
        with root_of(driver, "one", keys) as root:
            assert sorted(os.listdir(root / "etc")) == ["kept", "new"]
            assert os.listdir(root / "old") == ["fresh"]
            assert (root / "etc/new").read_bytes() == b"new"
            assert (root / "etc/new").stat().st_mode & 0o7777 == 0o4755

    def test_folder_that_a_layer_only_passes_through_keeps_its_looks(
        self, driver: Snapshots
    ) -> None:
        def through(tar: tarfile.TarFile) -> None:
            add(tar, "tmp/x", data=b"x")
            add(tar, "home/user/.wh.nothing")
            add(tar, "made/here", data=b"y")

        keys = put(driver, layer(lower), layer(through))
        driver.prepare("one", keys)
        with root_of(driver, "one", keys) as root:
            nodes = tree(root)
        assert (nodes["tmp"].mode, nodes["tmp"].mtime_ns) == (0o1777, (TIME_S + 5) * 10**9)
        assert (nodes["home"].mode, nodes["home"].uid, nodes["home"].gid) == (0o750, 7, 8)
        assert (nodes["home/user"].mode, nodes["home/user"].uid) == (0o700, 1000)
        assert (nodes["made"].mode, nodes["made"].uid) == (0o755, 0)

    def test_whiteouts_that_hide_nothing_are_not_listed(self, driver: Snapshots) -> None:
        def useless(tar: tarfile.TarFile) -> None:
            add(tar, "only", FOLDER, mode=0o701)
            add(tar, "only/.wh.nothing")
            add(tar, "old", FOLDER)
            add(tar, "old/.wh..wh..opq")
            add(tar, "old/.wh.inside")
            add(tar, ".wh.nowhere")

        keys = put(driver, layer(lower), layer(useless))
        driver.prepare("one", keys)
        for readonly in (False, True):
            with root_of(driver, "one", keys, readonly=readonly) as root:
                assert os.listdir(root / "only") == os.listdir(root / "old") == []
                assert sorted(os.listdir(root)) == ["etc", "home", "old", "only", "tmp"]
                assert (root / "only").stat().st_mode & 0o7777 == 0o701

    def test_root_looks_as_the_topmost_layer_says_that_says_so(self, driver: Snapshots) -> None:
        def rooted(tar: tarfile.TarFile) -> None:
            add(tar, "./", FOLDER, mode=0o711, uid=3)

        keys = put(driver, layer(rooted), layer(lower))
        driver.prepare("one", keys)
        for readonly in (False, True):
            with root_of(driver, "one", keys, readonly=readonly) as root:
                status = root.stat()
                assert (status.st_mode & 0o7777, status.st_uid) == (0o711, 3)

    def test_what_one_snapshot_writes_no_other_sees(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower))
        for name in ("one", "two"):
            driver.prepare(name, keys)
        with root_of(driver, "one", keys) as one, root_of(driver, "two", keys) as two:
            (one / "etc/kept").write_bytes(b"mine")
            (one / "etc/gone").unlink()
            assert (two / "etc/kept").read_bytes() == b"kept"
            assert (two / "etc/gone").exists()

    def test_copy_of_a_snapshot_has_its_files_and_goes_its_own_way(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower))
        for name in ("one", "two"):
            driver.prepare(name, keys)
        with root_of(driver, "one", keys) as one:
            (one / "etc/gone").unlink()
            (one / "etc/kept").write_bytes(b"mine")
            os.setxattr(one / "etc/kept", "user.mark", b"x")
            os.link(one / "etc/kept", one / "etc/again")
            shutil.rmtree(one / "old")
            (one / "old").mkdir(mode=0o705)
            (one / "link").symlink_to("etc/kept")
            with (one / "sparse").open("wb") as file:
                file.truncate(1 << 30)
            driver.copy("two", "one")
            with root_of(driver, "two", keys) as two:
                assert differences(tree(one), tree(two)) == []
                assert os.getxattr(two / "etc/kept", "user.mark") == b"x"
                assert (two / "etc/kept").samefile(two / "etc/again")
                (two / "etc/kept").write_bytes(b"theirs")
                assert (one / "etc/kept").read_bytes() == b"mine"
        assert driver.usage("two") < 1 << 20

    def test_what_was_written_is_there_the_next_time(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower))
        driver.prepare("one", keys)
        with root_of(driver, "one", keys) as root:
            (root / "etc/mine").write_bytes(b"mine")
        with root_of(driver, "one", keys) as root:
            assert (root / "etc/mine").read_bytes() == b"mine"

    def test_readonly_root_cannot_be_written(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower))
        driver.prepare("one", keys)
        mounts = driver.mounts("one", keys, readonly=True)
        assert not any(option.startswith("upperdir") for m in mounts for option in m.options)
        assert mounts[-1].type == "overlay" or "ro" in mounts[-1].options

    def test_readonly_root_shows_what_was_written(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower))
        driver.prepare("one", keys)
        with root_of(driver, "one", keys) as root:
            (root / "etc/mine").write_bytes(b"mine")
            (root / "etc/gone").unlink()
            with root_of(driver, "one", keys, readonly=True) as seen:
                assert sorted(os.listdir(seen / "etc")) == ["kept", "mine"]

    def test_image_without_layers_is_an_empty_root(self, driver: Snapshots) -> None:
        driver.prepare("one", [])
        with root_of(driver, "one", []) as root:
            assert os.listdir(root) == []
            (root / "file").touch()

    def test_a_file_shown_everywhere_is_in_each_root_and_no_change(self, driver: Snapshots) -> None:
        if driver.copies:
            pytest.skip("this driver has none")
        driver.show_everywhere(".mark")
        keys = put(driver, layer(lambda tar: add(tar, ".mark", data=b"own")))
        for name, layers, data in (("bare", [], b""), ("own", keys, b"own")):
            driver.prepare(name, layers)
            with root_of(driver, name, layers) as root:
                assert (root / ".mark").read_bytes() == data
            assert not list(driver.changes(name, layers))

    def test_hundred_layers_are_no_problem(self, driver: Snapshots) -> None:
        def number(tar: tarfile.TarFile, n: int) -> None:
            add(tar, "files", FOLDER)
            add(tar, f"files/{n}", data=b"%d" % n)
            add(tar, "last", data=b"%d" % n)

        keys = put(driver, *(layer(lambda tar, n=n: number(tar, n)) for n in range(100)))  # type: ignore[misc]
        driver.prepare("one", keys)
        with root_of(driver, "one", keys) as root:
            assert len(os.listdir(root / "files")) == 100
            assert (root / "last").read_bytes() == b"99"

    def test_changes_are_those_that_docker_diff_shows(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower))
        driver.prepare("one", keys)
        assert list(driver.changes("one", keys)) == []
        with root_of(driver, "one", keys) as root:
            (root / "etc/gone").unlink()
            (root / "etc/kept").write_bytes(b"changed")
            (root / "made/deep").mkdir(parents=True)
        found = {(change.kind, change.path) for change in driver.changes("one", keys)}
        assert found == {
            (ChangeKind.CHANGED, "/etc"),
            (ChangeKind.DELETED, "/etc/gone"),
            (ChangeKind.CHANGED, "/etc/kept"),
            (ChangeKind.ADDED, "/made"),
            (ChangeKind.ADDED, "/made/deep"),
        }

    def test_empty_mount_points_are_no_changes(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower))
        driver.prepare("one", keys)
        with root_of(driver, "one", keys) as root:
            for folder in ("proc", "srv/data", "full", "mine"):
                (root / folder).mkdir(parents=True)
            for file in ("etc/hosts", "full/file", "opt"):
                (root / file).touch()
        points = ["/proc", "/etc/hosts", "/srv/data", "/full"]
        found = {(one.kind, one.path) for one in driver.changes("one", keys, mount_points=points)}
        kept = {"/full", "/full/file", "/mine", "/opt"}
        assert found == {(ChangeKind.ADDED, path) for path in kept}
        out = io.BytesIO()
        driver.export_diff("one", keys, out, mount_points=points)
        with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
            assert {"/" + name for name in tar.getnames()} - {"/."} == kept

    def test_exported_changes_make_the_same_tree_again(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower), layer(upper))
        driver.prepare("one", keys)
        with root_of(driver, "one", keys) as root:
            change_everything(root)
            expected = tree(root)
        out = io.BytesIO()
        driver.export_diff("one", keys, out)
        more = [*keys, *put(driver, out.getvalue())]
        driver.prepare("again", more)
        with root_of(driver, "again", more) as root:
            assert differences(tree(root), expected) == []

    def test_layer_is_there_only_when_it_is_whole(self, driver: Snapshots) -> None:
        data = layer(lower)
        key = layer_key(digest(data))
        with pytest.raises(CorruptError):
            driver.add_layer(key, io.BytesIO(data[: len(data) // 2 - 100]))
        assert not driver.has_layer(key)
        assert driver.layers() == set()
        driver.add_layer(key, io.BytesIO(data))
        assert driver.has_layer(key)
        assert driver.layers() == {key}

    def test_layer_that_is_there_is_left_alone_and_the_stream_read(self, driver: Snapshots) -> None:
        data = layer(lower)
        (key,) = put(driver, data)
        stream = io.BytesIO(data)
        assert driver.add_layer(key, stream) == driver.layer_usage(key)
        assert stream.read() == b""

    def test_layer_that_several_add_at_once_is_there_once(self, driver: Snapshots) -> None:
        data = layer(lower)
        key = layer_key(digest(data))
        barrier = threading.Barrier(4)

        class Together(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                barrier.wait(10) if self.tell() == 0 else None
                return super().read(size)

        with ThreadPoolExecutor(4) as pool:
            sizes = list(pool.map(lambda _: driver.add_layer(key, Together(data)), range(4)))
        assert len(set(sizes)) == 1
        assert driver.layers() == {key}
        assert driver.collect() == 0

    def test_full_disk_says_so_and_leaves_nothing(self, driver: Snapshots) -> None:
        class Full(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise OSError(errno.ENOSPC, "No space left on device")

        key = layer_key(digest(b""))
        with pytest.raises(ExhaustedError):
            driver.add_layer(key, Full())
        assert driver.layers() == set()

    def test_name_can_be_used_once_until_removed(self, driver: Snapshots) -> None:
        driver.prepare("one", [])
        with pytest.raises(AlreadyExistsError):
            driver.prepare("one", [])
        driver.remove("one")
        driver.remove("one")
        assert driver.snapshots() == set()
        driver.prepare("one", [])
        assert driver.snapshots() == {"one"}

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\0b", "-x", "x" * 200])
    def test_name_that_could_be_a_path_is_refused(self, driver: Snapshots, name: str) -> None:
        with pytest.raises(InvalidArgumentError):
            driver.prepare(name, [])

    @pytest.mark.parametrize(
        "key", ["", "sha256:../../etc", "sha256:" + "a" * 63, "md5:" + "a" * 32]
    )
    def test_key_that_is_no_digest_is_refused(self, driver: Snapshots, key: str) -> None:
        with pytest.raises(InvalidArgumentError):
            driver.has_layer(LayerKey(key))

    def test_missing_things_are_named(self, driver: Snapshots) -> None:
        with pytest.raises(NotFoundError, match="no snapshot one"):
            driver.mounts("one", [])
        with pytest.raises(NotFoundError, match="no layer sha256:"):
            driver.prepare("one", [layer_key(digest(b"no such"))])
        assert driver.snapshots() == set()

    def test_usage_counts_what_a_snapshot_wrote(self, driver: Snapshots) -> None:
        keys = put(driver, layer(lower))
        driver.prepare("one", keys)
        before = driver.usage("one")
        with root_of(driver, "one", keys) as root:
            (root / "big").write_bytes(bytes(1 << 20))
            os.sync()
        assert driver.usage("one") - before >= 1 << 20

    def test_removed_layer_is_gone_and_its_bytes_after_collect(
        self, driver: Snapshots, tmp_path: Path
    ) -> None:
        keys = put(driver, layer(lower), layer(lambda tar: add(tar, "tmp/x", data=b"x")))
        driver.prepare("one", keys)
        driver.remove("one")
        for key in keys:
            driver.remove_layer(key)
            driver.remove_layer(key)
        assert driver.layers() == set()
        assert driver.collect() >= 3
        names = {path.name for path in tmp_path.rglob("*")}
        assert not names & {"kept", "layer.json", "layer.tar"}

    def test_leftovers_of_a_killed_process_are_collected_but_not_work_in_progress(
        self, driver: Snapshots, tmp_path: Path
    ) -> None:
        class Watching(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                assert driver.collect() == 0
                return super().read(size)

        data = layer(lower)
        driver.add_layer(layer_key(digest(data)), Watching(data))
        (staging,) = tmp_path.rglob("staging")
        (staging / "left" / "fs").mkdir(parents=True)
        assert driver.collect() == 1
        assert os.listdir(staging) == []

    def test_layer_of_another_boot_counts_only_if_it_was_synced(
        self, driver: Snapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced, lost = put(driver, layer(lower))[0], layer(upper)
        driver.sync()
        (key,) = put(driver, lost)
        monkeypatch.setattr("orlop.snapshots.shelf.boot", lambda: "another")
        assert driver.layers() == {synced}
        assert not driver.has_layer(key)
        put(driver, lost)  # unpacked again, in place of what may be broken
        assert driver.layers() == {synced, key}


def change_everything(root: Path) -> None:
    """Do to the tree what containers do: add, change, remove, replace, link, mark."""
    (root / "etc/new").unlink()
    (root / "etc/kept").write_bytes(b"changed, longer than before")
    (root / "file").write_bytes(b"x" * 5000)
    os.link(root / "file", root / "second-name")
    os.symlink("../nowhere", root / "link")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.setxattr(root / "file", "user.note", b"\0\xff\n")
    os.setxattr(root / "link", "security.note", b"on a link", follow_symlinks=False)
    os.chown(root / "file", 4_000_000, 12)
    os.chmod(root / "file", 0o6751)
    os.utime(root / "file", ns=(1, 1_600_000_000_123_456_789))
    (root / ("n" * 200)).write_bytes(b"")
    (root / "ünï").mkdir()
    (root / "old/fresh").unlink()
    os.rmdir(root / "old")
    (root / "old").mkdir(0o700)  # the same name, and nothing of what was in it
    (root / "old/inside").write_bytes(b"another")
    os.rmdir(root / "tmp")
    (root / "tmp").write_bytes(b"a folder no more")
    os.chmod(root / "home", 0o711)
