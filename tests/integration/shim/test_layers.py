"""Layers that all containers of an image share, as one mount each."""

import os
import subprocess
from pathlib import Path

import pytest

from orlop.model.mount import Mount
from orlop.shim.layers import Layers

from .harness import Shim


@pytest.fixture
def layered(shim: Shim, tmp_path: Path) -> Shim:
    """A shim whose containers stand on an EROFS image of busybox, below an overlay."""
    image = tmp_path / "layer.erofs"
    subprocess.run(["mkfs.erofs", "--quiet", image, shim.root], check=True)
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    shim.rootfs = [
        ["erofs", str(image), "", ["ro"]],
        [
            "overlay",
            "overlay",
            "/",
            ["lowerdir+=mount:0", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"],
        ],
    ]
    return shim


def test_containers_of_one_image_share_its_mount(layered: Shim) -> None:
    held = set()
    for name in ("one", "two"):
        assert layered.run_to_end(name, "true")["status"] == 0
        held.add(mounts_held_by(layered.pid))
    assert held == {1}


def test_layer_that_is_removed_is_let_go(layered: Shim) -> None:
    layers = Layers()
    before = mounts_held_by(os.getpid())
    rootfs = [
        Mount(kind, source, target, tuple(opts)) for kind, source, target, opts in layered.rootfs
    ]
    (overlay,) = layers.share(rootfs)
    assert overlay.options[0].startswith("lowerdir+=/proc/self/fd/")
    layers.sweep()
    assert mounts_held_by(os.getpid()) == before + 1
    Path(layered.rootfs[0][1]).unlink()
    layers.sweep()
    assert mounts_held_by(os.getpid()) == before


def mounts_held_by(pid: int) -> int:
    """Count detached mounts among the descriptors of *pid*: they are folders named "/"."""
    folder = f"/proc/{pid}/fd"
    return sum(link(f"{folder}/{fd}") == "/" for fd in os.listdir(folder))


def link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # the one that listed the folder
        return ""
