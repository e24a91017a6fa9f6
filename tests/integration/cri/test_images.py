"""CRI's ImageService."""

import base64
from pathlib import Path

import pytest

from orlop.api.cri import v1
from tests.integration.cri.kubelet import Kubelet, RefusedError
from tests.integration.engines import EngineProcess

_NAME = "docker.io/library/busybox:test"


@pytest.fixture(autouse=True)
def loaded(engine: EngineProcess, busybox_archive: Path) -> None:
    """Have the image busybox:test."""
    engine.docker("load", "-i", str(busybox_archive))


def status(kubelet: Kubelet, name: str) -> v1.Image:
    found: v1.ImageStatusResponse = kubelet(v1.ImageStatusRequest(image=v1.ImageSpec(image=name)))
    return found.image


def test_docker_and_cri_have_the_same_images(engine: EngineProcess, kubelet: Kubelet) -> None:
    digest = engine.out("image", "inspect", "-f", "{{.Id}}", "busybox:test")
    listed = {image.id: image for image in kubelet(v1.ListImagesRequest()).images}
    assert list(listed[digest].repo_tags) == [_NAME]
    for name in ("busybox:test", _NAME, digest):
        assert status(kubelet, name) == listed[digest]
    assert listed[digest].size == int(
        engine.out("image", "inspect", "-f", "{{.Size}}", "busybox:test")
    )
    assert not listed[digest].pinned


def test_list_images_can_ask_for_one(kubelet: Kubelet) -> None:
    def listed(name: str) -> list[str]:
        asked = v1.ImageFilter(image=v1.ImageSpec(image=name))
        return [
            tag
            for one in kubelet(v1.ListImagesRequest(filter=asked)).images
            for tag in one.repo_tags
        ]

    assert listed("busybox:test") == [_NAME]
    assert listed("no-such:image") == []


def test_the_built_in_image_is_pinned(kubelet: Kubelet) -> None:
    assert status(kubelet, "host").pinned


def test_status_of_a_missing_image_is_empty(kubelet: Kubelet) -> None:
    answer = kubelet(v1.ImageStatusRequest(image=v1.ImageSpec(image="no-such:image")))
    assert not answer.HasField("image")


@pytest.mark.parametrize("name", ["", "UPPER:case", "a:b:c", "x" * 5000])
def test_a_wrong_name_is_an_invalid_argument(kubelet: Kubelet, name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        kubelet(v1.PullImageRequest(image=v1.ImageSpec(image=name)))
    assert refused.value.code == "INVALID_ARGUMENT"


def test_pull_and_remove(engine: EngineProcess, kubelet: Kubelet, loopback_registry: str) -> None:
    name = f"{loopback_registry}/cri/busybox:1"
    engine.docker("tag", "busybox:test", name)
    engine.docker("push", name)
    engine.docker("rmi", name, "busybox:test")
    pulled = kubelet(v1.PullImageRequest(image=v1.ImageSpec(image=name)))
    found = status(kubelet, name)
    assert found.id == pulled.image_ref
    assert list(found.repo_tags) == [name]
    assert [digest.partition("@")[0] for digest in found.repo_digests] == [name.rpartition(":")[0]]
    for _ in range(2):  # the second time nothing is there
        kubelet(v1.RemoveImageRequest(image=v1.ImageSpec(image=pulled.image_ref)))
        assert not status(kubelet, name).id


def test_a_pull_of_what_no_registry_has_says_so(kubelet: Kubelet, loopback_registry: str) -> None:
    name = f"{loopback_registry}/no/such:image"
    auth = v1.AuthConfig(auth=base64.b64encode(b"me:secret").decode())
    with pytest.raises(RefusedError) as refused:
        kubelet(v1.PullImageRequest(image=v1.ImageSpec(image=name), auth=auth))
    assert refused.value.code == "NOT_FOUND"
    auth.auth = "not base64!"
    with pytest.raises(RefusedError) as refused:
        kubelet(v1.PullImageRequest(image=v1.ImageSpec(image=name), auth=auth))
    assert refused.value.code == "INVALID_ARGUMENT"


def test_image_fs_info_names_the_root_and_its_size(engine: EngineProcess, kubelet: Kubelet) -> None:
    answer = kubelet(v1.ImageFsInfoRequest())
    (images,) = answer.image_filesystems
    assert list(answer.container_filesystems) == [images]
    assert images.fs_id.mountpoint == str(engine.root)
    assert images.used_bytes.value > 100_000
    assert images.timestamp > 0
