"""Images that the engine moves: `ctr images pull --local=false` and its relatives."""

import platform
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.containerd.conftest import Ctr, FailedError
from tests.integration.engines import EngineProcess
from tests.integration.images import servers

NAME = "docker.io/library/busybox:test"
HERE = "linux/amd64" if platform.machine() == "x86_64" else "linux/arm64"


@pytest.fixture
def image(ctr: Ctr, busybox_archive: Path) -> Iterator[str]:
    """An image that the engine has loaded for `ctr`; in the end there is none."""
    ctr("images", "import", "--local=false", str(busybox_archive))
    yield NAME
    for name in ctr("images", "ls", "-q").split():
        ctr("images", "rm", "--sync", name)
    assert ctr("content", "ls", "-q") == ""


def test_an_image_is_pushed_and_pulled_by_the_engine(
    ctr: Ctr, image: str, loopback_registry: str
) -> None:
    remote = f"{loopback_registry}/busybox:moved"
    ctr("images", "tag", image, remote)
    ctr("images", "push", "--local=false", remote)
    for name in (image, remote):
        ctr("images", "rm", "--sync", name)
    ctr("images", "pull", "--local=false", "--platform", HERE, remote)
    assert ctr("images", "check").splitlines()[1].split()[-1] == "true"
    assert len(ctr("snapshots", "ls").splitlines()) == 2
    assert ctr("run", "--rm", remote, "one", "echo", "pulled") == "pulled\n"
    ctr("images", "rm", "--sync", remote)
    assert len(ctr("snapshots", "ls").splitlines()) == 1


def test_an_image_is_exported_and_imported_by_the_engine(
    engine: EngineProcess, ctr: Ctr, image: str, tmp_path: Path
) -> None:
    path = tmp_path / "image.tar"
    ctr("images", "export", "--local=false", str(path), image)
    with tarfile.open(path) as tar:
        assert "index.json" in tar.getnames()
    ctr("images", "rm", "--sync", image)
    ctr("images", "import", "--local=false", str(path))
    assert engine.out("images", "--format", "{{.Repository}}:{{.Tag}}") == "busybox:test"


def test_a_client_is_asked_for_its_credentials(ctr: Ctr, image: str, tmp_path: Path) -> None:
    with servers.registry(tmp_path, servers.htpasswd(tmp_path)) as address:
        remote = f"{address}/busybox:secret"
        ctr("images", "tag", image, remote)
        with pytest.raises(FailedError):
            ctr("images", "push", "--local=false", remote)
        user = f"{servers.USER}:{servers.PASSWORD}"
        ctr("images", "push", "--local=false", "--user", user, remote)


def test_what_fails_says_why(ctr: Ctr, image: str, loopback_registry: str, tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="does not exist"):
        ctr("images", "pull", "--local=false", f"{loopback_registry}/no/such:1")
    wrong = tmp_path / "wrong.tar"
    wrong.write_bytes(b"this is no archive" * 1000)
    with pytest.raises(FailedError, match="malformed"):
        ctr("images", "import", "--local=false", str(wrong))
    with pytest.raises(FailedError, match="no image"):
        ctr("images", "export", "--local=false", str(tmp_path / "x.tar"), "nosuch")
    assert ctr("images", "ls", "-q").split() == [image]
