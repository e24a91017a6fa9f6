"""A whole distribution, pushed by skopeo and pulled by Orlop, beside what umoci makes of it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.snapshots.choose import open_driver
from orlop.snapshots.interface import layer_key
from orlop.snapshots.view import open_root
from tests import debian_image
from tests.integration.engines import EngineProcess
from tests.trees import Node, differences, tree

#: Folders whose times are made up: no layer names them, or umoci changes them when it
#: makes such a folder inside.
MADE_UP = (".", "tmp", "srv", "srv/made", "srv/made/for")


class EngineWithDriver(EngineProcess):
    """An engine told which snapshot driver to use."""

    def __init__(self, folder: Path, driver: str) -> None:
        super().__init__(folder)
        self.driver = driver

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "ORLOP_SNAPSHOTTER": self.driver}


@pytest.fixture(scope="module")
def reference(loopback_registry: str) -> str:
    """Push the image with skopeo; return what to pull."""
    name = f"{loopback_registry}/debian:five-layers"
    source = f"oci:{debian_image.layout()}:{debian_image.TAG}"
    command = ["skopeo", "copy", "-q", "--dest-tls-verify=false", source, f"docker://{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return name


@pytest.fixture(scope="module")
def umoci_tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Node]:
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    image = f"{debian_image.layout()}:{debian_image.TAG}"
    subprocess.run(["umoci", "unpack", "--image", image, bundle], check=True, capture_output=True)
    return tree(bundle / "rootfs")


@pytest.fixture(params=["erofs", "overlay", "native"])
def engine_with_driver(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[EngineWithDriver]:
    process = EngineWithDriver(tmp_path, request.param)
    try:
        process.start()
        yield process
    finally:
        process.close()


def test_the_pulled_root_is_the_one_that_umoci_unpacks(
    engine_with_driver: EngineWithDriver, reference: str, umoci_tree: dict[str, Node]
) -> None:
    engine = engine_with_driver
    engine.docker("pull", "-q", reference)
    (image,) = json.loads(engine.out("image", "inspect", reference))
    driver = open_driver(str(engine.root / "snapshots"), engine.driver)
    keys = [layer_key(diff_id) for diff_id in image["RootFS"]["Layers"]]
    driver.prepare("compared", keys)
    root = open_root(driver.mounts("compared", keys))
    try:
        ours = tree(f"/proc/self/fd/{root}")
    finally:
        os.close(root)
        driver.remove("compared")
    assert differences(_told(ours), _told(umoci_tree)) == []


def _told(nodes: dict[str, Node]) -> dict[str, Node]:
    """Leave out times that no layer tells, and sizes of folders, which are the file system's."""
    return {
        path: node._replace(
            mtime_ns=0 if path in MADE_UP else node.mtime_ns,
            size=0 if node.kind == "d" else node.size,
        )
        for path, node in nodes.items()
    }


def test_a_program_of_the_pulled_distribution_runs(
    engine_with_driver: EngineWithDriver, reference: str
) -> None:
    command = (
        "run",
        "--rm",
        "--network",
        "none",
        reference,
        "dpkg-query",
        "-W",
        "-f",
        "${Package}",
        "bash",
    )
    assert engine_with_driver.out(*command) == "bash"
