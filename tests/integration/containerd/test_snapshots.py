"""`ctr snapshots`, and images as files."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.containerd.conftest import Ctr, FailedError
from tests.integration.engines import EngineProcess

NAME = "docker.io/library/busybox:test"


@pytest.fixture(scope="module", autouse=True)
def image(ctr: Ctr, busybox_archive: Path) -> str:
    """An image that `ctr` has imported and unpacked; returns the key of its files."""
    ctr("images", "import", str(busybox_archive))
    (key,) = keys(ctr)
    return key


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where snapshots are mounted."""
    tmp_path.joinpath("mnt").mkdir()
    yield tmp_path / "mnt"
    subprocess.run(["umount", str(tmp_path / "mnt")], capture_output=True, check=False)


def keys(ctr: Ctr) -> list[str]:
    return [line.split()[0] for line in ctr("snapshots", "ls").splitlines()[1:]]


def mount(ctr: Ctr, key: str, folder: Path) -> None:
    """Mount as `ctr` says that it is to be done; by mount(2), as clients do."""
    command = ctr("snapshots", "mounts", str(folder), key).split()
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LIBMOUNT_FORCE_MOUNT2": "always"}
    subprocess.run(command, env=environment, check=True)


def test_an_imported_image_is_unpacked(engine: EngineProcess, ctr: Ctr) -> None:
    assert ctr("images", "check", f"name=={NAME}").splitlines()[1].split()[-1] == "true"
    assert engine.out("run", "--rm", "--network", "none", "busybox:test", "echo", "hi") == "hi"


def test_what_is_written_is_in_the_committed_snapshot(ctr: Ctr, image: str, folder: Path) -> None:
    ctr("snapshots", "prepare", "active", image)
    mount(ctr, "active", folder)
    folder.joinpath("new").write_text("text")
    folder.joinpath("bin/sh").unlink()
    subprocess.run(["umount", str(folder)], check=True)
    ctr("snapshots", "commit", "committed", "active")
    assert {*keys(ctr)} == {image, "committed"}
    ctr("snapshots", "view", "look", "committed")
    mount(ctr, "look", folder)
    assert folder.joinpath("new").read_text() == "text"
    assert not folder.joinpath("bin/sh").exists()
    with pytest.raises(OSError, match="Read-only"):
        folder.joinpath("more").touch()
    subprocess.run(["umount", str(folder)], check=True)
    with pytest.raises(FailedError, match="snapshots are based on committed"):
        ctr("snapshots", "rm", "committed")
    tree = ctr("snapshots", "tree")
    assert [line.strip(" \\_") for line in tree.splitlines()] == [image, "committed", "look"]
    for key in ("look", "committed"):
        ctr("snapshots", "rm", key)


def test_an_image_can_be_mounted(ctr: Ctr, image: str, folder: Path) -> None:
    ctr("images", "mount", NAME, str(folder))
    assert folder.joinpath("bin/busybox").is_file()
    ctr("images", "unmount", "--rm", str(folder))
    assert keys(ctr) == [image]
    assert "MiB" in ctr("images", "usage", NAME)


def test_snapshots_survive_the_engine(engine: EngineProcess, ctr: Ctr, image: str) -> None:
    ctr("snapshots", "prepare", "kept", image)
    before = ctr("snapshots", "mounts", "/mnt", "kept")
    engine.stop()
    engine.start()
    assert ctr("snapshots", "mounts", "/mnt", "kept") == before
    (upper,) = re.findall("upperdir=([^,]*)", before)
    assert Path(upper).is_dir()
    ctr("snapshots", "rm", "kept")
    assert not Path(upper).exists()


def test_wrong_requests_are_refused(ctr: Ctr, image: str) -> None:
    ctr("snapshots", "prepare", "one", image)
    for words, why in (
        (("prepare", "one", image), "already exists"),
        (("prepare", "two", "missing"), "not found"),
        (("prepare", "two", "one"), "is not committed"),
        (("commit", "two", "missing"), "not found"),
        (("commit", image, "one"), "already exists"),
        (("mounts", "/mnt", image), "is committed"),
        (("rm", "missing"), "not found"),
    ):
        with pytest.raises(FailedError, match=why):
            ctr("snapshots", *words)
    with pytest.raises(FailedError, match="no snapshotter zfs"):
        ctr("snapshots", "--snapshotter", "zfs", "ls")
    ctr("snapshots", "rm", "one")
    assert keys(ctr) == [image]


def test_layers_go_with_the_last_image(engine: EngineProcess, ctr: Ctr) -> None:
    layers = engine.root / "snapshots" / "overlay" / "layers"
    assert [*layers.iterdir()]
    ctr("images", "rm", "--sync", NAME)
    assert keys(ctr) == []
    assert [*layers.iterdir()] == []
