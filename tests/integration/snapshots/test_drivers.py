"""The built-in drivers, each after the contract."""

import os
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.mount import Mount
from orlop.snapshots import choose
from orlop.snapshots.erofs import Erofs
from orlop.snapshots.interface import LayerKey, Snapshots
from orlop.snapshots.native import Native
from orlop.snapshots.overlay import Overlay
from orlop.snapshots.view import open_root
from tests.crafting import layer
from tests.integration.snapshots.contract import SnapshotsContract, lower, put, root_of


class TestOverlay(SnapshotsContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Snapshots:
        return Overlay(str(tmp_path / "overlay"))


class TestVolatileOverlay(SnapshotsContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Snapshots:
        return Overlay(str(tmp_path / "overlay"), volatile=True)


@pytest.fixture
def erofs_root(tmp_path: Path) -> str:
    root = str(tmp_path / "erofs")
    try:
        Erofs.probe(root)
    except UnsupportedError as error:
        pytest.skip(f"EROFS layers: {error}")
    return root


class TestErofs(SnapshotsContract):
    @pytest.fixture
    def driver(self, erofs_root: str) -> Snapshots:
        return Erofs(erofs_root)


class Sized(Erofs):
    """Snapshots that all have a size; they keep the same contract."""

    def prepare(
        self,
        snapshot: str,
        layers: Sequence[LayerKey],
        *,
        base: Sequence[Mount] = (),
        size_bytes: int = 32 << 20,
    ) -> None:
        super().prepare(snapshot, layers, base=base, size_bytes=size_bytes)


class TestSized(SnapshotsContract):
    @pytest.fixture
    def driver(self, erofs_root: str) -> Snapshots:
        return Sized(erofs_root, volatile=True)


class TestNative(SnapshotsContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Snapshots:
        return Native(str(tmp_path / "native"))


def test_plain_layer_is_indexed_and_an_odd_one_unpacked(tmp_path: Path) -> None:
    driver = Erofs(str(tmp_path))

    def twice(tar: tarfile.TarFile) -> None:
        lower(tar)
        lower(tar)

    put(driver, layer(lower))
    assert len(list(tmp_path.glob("layers/*/layer.erofs"))) == 1
    keys = put(driver, layer(twice))
    assert len(list(tmp_path.glob("layers/*/layer.erofs"))) == 1
    assert len(list(tmp_path.glob("layers/*/fs"))) == 1
    driver.prepare("one", keys)
    with root_of(driver, "one", keys) as root:
        assert (root / "etc/kept").read_bytes() == b"kept"


def test_file_system_that_the_kernel_lacks_is_said_so() -> None:
    with pytest.raises(UnsupportedError, match="no file system no-such"):
        open_root([Mount("no-such", "no-such", "/", ())])


def test_best_driver_is_chosen_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: str) -> None:
        raise UnsupportedError("not here")

    monkeypatch.setattr(Erofs, "probe", refuse)
    assert choose.snapshots(str(tmp_path)).name == "overlay"
    monkeypatch.setattr(Overlay, "probe", refuse)
    assert choose.snapshots(str(tmp_path)).name == "overlay"  # remembered
    (tmp_path / "chosen.json").write_text("{ not json")
    assert choose.snapshots(str(tmp_path)).name == "native"
    with pytest.raises(UnsupportedError, match="not here"):
        choose.snapshots(str(tmp_path), "overlay")


def test_unknown_driver_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no snapshot driver 'zfs'.*erofs, overlay"):
        choose.snapshots(str(tmp_path), "zfs")


def test_layer_that_mkfs_will_not_index_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    driver = Erofs(str(tmp_path))
    keys = put(driver, layer(lower))
    driver.prepare("one", keys)
    with root_of(driver, "one", keys) as root:
        assert (root / "etc/kept").read_bytes() == b"kept"
    assert not list(tmp_path.glob("layers/*/layer.*[!n]"))


def test_driver_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[orlop.snapshots]\ntheirs = their_driver:Theirs\n")
    (tmp_path / "their_driver.py").write_text(
        "from orlop.snapshots.native import Native\nclass Theirs(Native):\n    name = 'theirs'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    driver = choose.snapshots(str(tmp_path / "snapshots"), "theirs")
    assert driver.name == "theirs"
    assert put(driver, layer(lower))


def test_empty_snapshots_of_an_engine_that_was_killed_are_used(tmp_path: Path) -> None:
    (tmp_path / "pool" / "left" / "fs").mkdir(parents=True)
    first, second = Overlay(str(tmp_path)), Overlay(str(tmp_path))
    first.prepare("one", [])
    deadline = time.monotonic() + 10
    while len(os.listdir(tmp_path / "pool")) < 2:
        assert time.monotonic() < deadline
    second.prepare("two", [])
    with root_of(second, "two", []) as root:
        (root / "file").touch()


def test_snapshot_with_a_size_takes_no_more_and_leaves_no_device(tmp_path: Path) -> None:
    driver = Overlay(str(tmp_path))
    driver.prepare("sized", put(driver, layer(lower)), size_bytes=8 << 20)
    before = _loops(tmp_path)
    for _ in range(2):  # also when it is mounted again
        root = open_root(driver.mounts("sized", sorted(driver.layers())))
        try:
            full = os.open("full", os.O_WRONLY | os.O_CREAT, dir_fd=root)
            with pytest.raises(OSError, match="No space left"), open(full, "wb") as file:
                file.write(bytes(9 << 20))
            assert driver.usage("sized") <= 8 << 20  # the same file system, looked at meanwhile
            assert len(_loops(tmp_path)) == 1
            os.unlink("full", dir_fd=root)
        finally:
            os.close(root)
    driver.remove("sized")
    driver.collect()
    assert before == []
    assert _loops(tmp_path) == []


@pytest.mark.parametrize("driver", [Overlay, Native])
def test_size_that_cannot_be_had_is_refused(
    tmp_path: Path, driver: type[Overlay] | type[Native]
) -> None:
    snapshots = driver(str(tmp_path))
    keys = put(snapshots, layer(lower))
    with pytest.raises((InvalidArgumentError, UnsupportedError), match=r"size|limit"):
        snapshots.prepare("sized", keys, size_bytes=1 << 20)


def _loops(folder: Path) -> list[str]:
    """Return the files in *folder* that are loop devices."""
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    return [text for path in found if (text := path.read_text()).startswith(str(folder))]
