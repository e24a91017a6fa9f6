"""Five layers that do all that layers can do: every driver's tree is the one that umoci unpacks."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import UnsupportedError
from orlop.layers.apply import apply
from orlop.snapshots import choose
from tests.crafting import TIME_S, add, digest, image_config, layer
from tests.integration.snapshots.contract import put, root_of
from tests.trees import Node, differences, tree

FOLDER, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
CAPABILITY = "\x01\0\0\x02\0\x20" + "\0" * 14


def base(tar: tarfile.TarFile) -> None:
    add(tar, "./", FOLDER, mode=0o751, mtime=TIME_S + 1)
    for number, folder in enumerate(("etc", "usr", "usr/bin", "usr/share", "var", "srv", "home")):
        add(tar, folder, FOLDER, mtime=TIME_S + number)
    add(tar, "bin", SYMLINK, linkname="usr/bin")
    add(tar, "tmp", FOLDER, mode=0o1777, mtime=TIME_S + 0.25)
    add(tar, "usr/bin/tool", data=b"#!/bin/sh\n" * 1000, mode=0o4755)
    for number in range(300):
        add(tar, f"usr/share/{number}", data=b"%d" % number * number, mtime=TIME_S + number / 7)
    add(tar, "var/old", FOLDER)
    add(tar, "var/old/file", data=b"old")
    add(tar, "var/emptied", FOLDER, uid=3)
    add(tar, "var/emptied/a", data=b"a")
    add(tar, "var/emptied/b", FOLDER)
    add(tar, "srv/becomes-file", FOLDER)
    add(tar, "srv/becomes-file/x", data=b"x")
    add(tar, "srv/becomes-folder", data=b"file")
    add(tar, "home/user", FOLDER, mode=0o700, uid=1000, gid=1000)


def removals(tar: tarfile.TarFile) -> None:
    add(tar, "usr", FOLDER)
    add(tar, "usr/share", FOLDER, mtime=TIME_S + 9)
    for number in range(0, 300, 2):
        add(tar, f"usr/share/.wh.{number}")
    add(tar, "var", FOLDER)
    add(tar, "var/.wh.old")
    add(tar, "var/emptied", FOLDER, uid=4)
    add(tar, "var/emptied/.wh..wh..opq")
    add(tar, "var/emptied/c", data=b"c")


def replacements(tar: tarfile.TarFile) -> None:
    add(tar, "srv", FOLDER)
    add(tar, "srv/becomes-file", data=b"file")
    add(tar, "srv/becomes-folder", FOLDER)
    add(tar, "srv/becomes-folder/x", data=b"x")
    add(tar, "var", FOLDER)
    add(tar, "var/old", FOLDER)
    add(tar, "var/old/again", data=b"again")
    add(tar, "usr", FOLDER)
    add(tar, "usr/bin", FOLDER)
    add(tar, "usr/bin/tool", data=b"new", mode=0o755, mtime=TIME_S + 0.5)
    add(tar, "n" * 255, data=b"long")
    add(tar, "p/" * 60 + "q" * 90, data=b"long path")
    add(tar, "ünï ço∂é\n", data=b"odd")


def links(tar: tarfile.TarFile) -> None:
    add(tar, "srv", FOLDER)
    add(tar, "srv/one", data=b"one", mode=0o640, uid=5, gid=6)
    add(tar, "srv/two", LINK, linkname="srv/one", mode=0o640, uid=5, gid=6)
    add(tar, "srv/three", LINK, linkname="srv/two", mode=0o640, uid=5, gid=6)
    add(tar, "srv/link", SYMLINK, linkname="../../etc/passwd", uid=7)
    add(tar, "srv/long", SYMLINK, linkname="l" * 1000)
    add(tar, "home/user/.profile", data=b"in a folder that this layer does not name", uid=1000)


def specials(tar: tarfile.TarFile) -> None:
    add(tar, "dev", FOLDER)
    add(tar, "dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add(tar, "dev/disk", tarfile.BLKTYPE, devmajor=259, devminor=70000, mode=0o660, gid=6)
    add(tar, "dev/fifo", tarfile.FIFOTYPE, mode=0o622)
    add(tar, "cap", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY})
    add(tar, "tagged", data=b"x", pax_headers={"SCHILY.xattr.user.note": "ünï"})
    add(tar, "tagged-folder", FOLDER, pax_headers={"SCHILY.xattr.trusted.note": "y"})
    add(tar, "sgid", FOLDER, mode=0o2775, gid=50)
    add(tar, "sgid/inside", data=b"x", mode=0o2755)
    add(tar, "ids", data=b"x", uid=3_000_000, gid=4_000_000_000)
    add(tar, "zeros", data=bytes(2 << 20))
    add(tar, "data", data=bytes(range(256)) * 20001)


LAYERS = (base, removals, replacements, links, specials)


@pytest.fixture(scope="module")
def layers() -> list[bytes]:
    return [layer(fill) for fill in LAYERS]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, layers: list[bytes]) -> dict[str, Node]:
    image = tmp_path_factory.mktemp("umoci")
    write_layout(image / "layout", layers)
    command = ["umoci", "unpack", "--image", f"{image}/layout:test", f"{image}/bundle"]
    subprocess.run(command, check=True, capture_output=True)
    return tree(image / "bundle" / "rootfs")


@pytest.mark.parametrize("name", ["erofs", "overlay", "native"])
def test_root_is_the_one_that_umoci_unpacks(
    name: str, layers: list[bytes], theirs: dict[str, Node], tmp_path: Path
) -> None:
    try:
        driver = choose.snapshots(str(tmp_path), name)
    except UnsupportedError as error:
        pytest.skip(str(error))
    keys = put(driver, *layers)
    driver.prepare("one", keys)
    with root_of(driver, "one", keys) as root:
        ours = tree(root)
    assert list(unlike(ours, theirs)) == []
    if name == "erofs":
        assert len(list(tmp_path.glob("erofs/layers/*/layer.erofs"))) == 5


def test_layers_applied_to_one_folder_make_the_same_root(
    layers: list[bytes], theirs: dict[str, Node], tmp_path: Path
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for data in layers:
            apply(io.BytesIO(data), fd, flat=True)
    finally:
        os.close(fd)
    assert list(unlike(tree(tmp_path), theirs)) == []


def unlike(ours: dict[str, Node], theirs: dict[str, Node]) -> Iterator[str]:
    """Differences, but for the times of folders that no layer names, and of what these are in.

    umoci makes them, and has made them, now.
    """
    for path in ours.keys() & theirs.keys():
        if path == "." or set(path.split("/")) == {"p"}:
            theirs[path] = theirs[path]._replace(mtime_ns=ours[path].mtime_ns)
    yield from differences(ours, theirs)


def write_layout(folder: Path, layers: list[bytes]) -> None:
    """Write an OCI layout with one image, tagged `test`, of uncompressed layers."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, data: bytes) -> dict[str, Any]:
        (blobs / digest(data)[7:]).write_bytes(data)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "config": blob("config.v1+json", image_config(layers, {})),
        "layers": [blob("layer.v1.tar", data) for data in layers],
    }
    target = blob("manifest.v1+json", json.dumps(manifest).encode())
    target["annotations"] = {"org.opencontainers.image.ref.name": "test"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [target]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def test_stored_tar_of_an_indexed_layer_is_readable_by_others(
    layers: list[bytes], tmp_path: Path
) -> None:
    driver = choose.snapshots(str(tmp_path), "erofs")
    put(driver, layers[0])
    (path,) = tmp_path.glob("erofs/layers/*/layer.tar")
    with tarfile.open(fileobj=io.BytesIO(layers[0])) as original, tarfile.open(path) as stored:
        names = {member.name.strip("./") for member in original}
        assert {member.name.strip("./") for member in stored} == names
