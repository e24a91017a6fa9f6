"""`ctr images` and the blobs that images are made of."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.containerd.conftest import Ctr, FailedError
from tests.integration.engines import EngineProcess

NAME = "docker.io/library/busybox:test"


@pytest.fixture
def image(ctr: Ctr, busybox_archive: Path) -> Iterator[str]:
    """An image that `ctr` has imported; after the test no image is left."""
    ctr("images", "import", "--no-unpack", str(busybox_archive))
    yield NAME
    for name in ctr("images", "ls", "-q").split():
        ctr("images", "rm", "--sync", name)
    assert ctr("content", "ls", "-q") == ""


def test_an_imported_image_is_dockers_as_well(engine: EngineProcess, ctr: Ctr, image: str) -> None:
    assert ctr("images", "ls", "-q").split() == [image]
    assert ctr("images", "ls", "-q", namespace="other").split() == [image]
    assert engine.out("images", "--format", "{{.Repository}}:{{.Tag}}") == "busybox:test"
    assert engine.out("run", "--rm", "--network", "none", "busybox:test", "echo", "hi") == "hi"


def test_an_image_of_docker_is_listed(
    engine: EngineProcess, ctr: Ctr, busybox_archive: Path
) -> None:
    engine.docker("load", "-i", str(busybox_archive))
    assert ctr("images", "ls", "-q").split() == [NAME]
    ctr("images", "rm", "--sync", NAME)
    assert engine.out("images", "-q") == ""


def test_names_are_given_labelled_and_removed(ctr: Ctr, image: str) -> None:
    other = "docker.io/library/other:1"
    ctr("images", "tag", image, other)
    with pytest.raises(FailedError, match="already exists"):
        ctr("images", "tag", image, other)
    ctr("images", "label", other, "colour=navy", "size=7")
    assert ctr("images", "label", other, "size=").strip() == "colour=navy"
    assert ctr("images", "ls", "-q", "labels.colour==navy").split() == [other]
    ctr("images", "rm", other)
    with pytest.raises(FailedError, match="not found"):
        ctr("images", "label", other, "a=b")
    assert ctr("images", "ls", "-q").split() == [image]


def test_a_short_name_means_what_it_means_to_docker(ctr: Ctr, image: str) -> None:
    ctr("images", "tag", image, "short")
    assert "docker.io/library/short:latest" in ctr("images", "ls", "-q").split()
    with pytest.raises(FailedError, match="invalid argument"):
        ctr("images", "tag", image, "Not A Name")


def test_an_exported_image_can_be_imported(ctr: Ctr, image: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    ctr("images", "export", str(path), image)
    before = ctr("images", "ls")
    with tarfile.open(path) as tar:
        assert "index.json" in tar.getnames()
    ctr("images", "rm", "--sync", image)
    assert ctr("content", "ls", "-q") == ""
    ctr("images", "import", "--no-unpack", str(path))
    assert ctr("images", "ls") == before


def test_a_blob_that_an_image_needs_is_not_removed(ctr: Ctr, image: str) -> None:
    config = next(
        digest
        for digest in ctr("content", "ls", "-q").split()
        if b"rootfs" in ctr("content", "get", digest).encode(errors="replace")[:4000]
    )
    with pytest.raises(FailedError, match="needs the blob"):
        ctr("content", "rm", config)
    assert json.loads(ctr("content", "get", config))["rootfs"]["type"] == "layers"


def test_an_image_goes_to_a_registry_and_comes_back(
    ctr: Ctr, image: str, loopback_registry: str
) -> None:
    remote = f"{loopback_registry}/busybox:pushed"
    ctr("images", "tag", image, remote)
    ctr("images", "push", "--plain-http", remote)
    blobs = {*ctr("content", "ls", "-q").split()}
    for name in (image, remote):
        ctr("images", "rm", "--sync", name)
    assert ctr("content", "ls", "-q") == ""
    ctr("images", "pull", "--plain-http", remote)
    assert ctr("images", "ls", "-q").split() == [remote]
    assert {*ctr("content", "ls", "-q").split()} <= blobs
    assert ctr("run", "--rm", remote, "pulled", "echo", "hello") == "hello\n"
