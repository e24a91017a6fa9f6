"""One server of each kind for all tests of a module; what a test made is checked to be gone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.peers import servers


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture(scope="module")
def docker(busybox_archive: Path) -> Iterator[servers.Peer]:
    with servers.place() as folder, servers.dockerd(folder) as peer:
        peer.said("load", "--input", str(busybox_archive))
        yield peer


@pytest.fixture(scope="module")
def remapped(busybox_archive: Path) -> Iterator[servers.Peer]:
    with servers.place() as folder, servers.dockerd(folder, remapped=True) as peer:
        peer.said("load", "--input", str(busybox_archive))
        yield peer


@pytest.fixture(scope="module")
def ctr(busybox_archive: Path) -> Iterator[servers.Peer]:
    with servers.place() as folder, servers.containerd(folder) as peer:
        peer.said("image", "import", "--snapshotter", "native", str(busybox_archive))
        yield peer


@pytest.fixture(scope="module")
def podman(busybox_archive: Path) -> Iterator[servers.Peer]:
    with servers.place() as folder, servers.podman(folder) as peer:
        peer.said("load", "--input", str(busybox_archive))
        yield peer


@pytest.fixture(scope="module")
def rootless(busybox_archive: Path) -> Iterator[servers.Peer]:
    with servers.place() as folder, servers.rootless_podman(folder) as peer:
        shutil.copy(busybox_archive, folder / "image.tar")
        (folder / "image.tar").chmod(0o644)
        peer.said("load", "--input", f"{folder}/image.tar")
        yield peer
