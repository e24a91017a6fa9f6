"""A real Debian image in five layers, made on this machine by debootstrap.

Layer 1 is the distribution; the others do to it what image builds do: delete,
replace, link, give capabilities, make devices. It is built once and kept in
the checkout's .cache folder, as an OCI layout with the tag "debian".
"""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import isal.igzip

from tests.crafting import TIME_S, add, digest, image_config, layer
from tests.outside import outside

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "debian-image-1"
TAG = "debian"


def layout() -> Path:
    """Return the OCI layout that holds the image, building it first where it is missing."""
    if not (CACHE / "index.json").exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        building = CACHE.with_suffix(".building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        _build(building)
        building.rename(CACHE)
    return CACHE


def _build(folder: Path) -> None:
    root = folder / "root"
    make = ["debootstrap", "--variant=minbase", "stable", str(root)]
    subprocess.run(outside(make), check=True, capture_output=True)
    base = folder / "base.tar"
    keep = ["--xattrs", "--xattrs-include=*", "--numeric-owner"]
    leave = ["--exclude=./var/cache/apt/*.bin", "--exclude=./var/cache/apt/archives/*.deb"]
    subprocess.run(["tar", "-C", root, *keep, *leave, "-cf", base, "."], check=True)
    shutil.rmtree(root)
    layers = [base.read_bytes(), *(layer(fill) for fill in (_delete, _replace, _link, _special))]
    base.unlink()
    _write_image(folder, layers)


def _delete(tar: tarfile.TarFile) -> None:
    """Whiteouts of a file, of a folder, and of something in a folder named nowhere else."""
    add(tar, "etc", tarfile.DIRTYPE)
    add(tar, "etc/.wh.motd")
    add(tar, "usr", tarfile.DIRTYPE)
    add(tar, "usr/share", tarfile.DIRTYPE)
    add(tar, "usr/share/.wh.doc")
    add(tar, "usr/share/.wh.locale")
    add(tar, "var", tarfile.DIRTYPE)
    add(tar, "var/lib", tarfile.DIRTYPE)
    add(tar, "var/lib/apt", tarfile.DIRTYPE)
    add(tar, "var/lib/apt/lists", tarfile.DIRTYPE)
    add(tar, "var/lib/apt/lists/.wh..wh..opq")


def _replace(tar: tarfile.TarFile) -> None:
    """An opaque folder with new content, a folder that becomes a file, long and odd names."""
    add(tar, "usr", tarfile.DIRTYPE)
    add(tar, "usr/share", tarfile.DIRTYPE)
    add(tar, "usr/share/common-licenses", tarfile.DIRTYPE, mode=0o750, gid=42)
    add(tar, "usr/share/common-licenses/.wh..wh..opq")
    add(tar, "usr/share/common-licenses/NEW", data=b"only this\n", uid=1000, gid=1000)
    add(tar, "usr/share/doc", tarfile.DIRTYPE)
    add(tar, "usr/share/doc/again", data=b"the folder is back\n")
    add(tar, "srv", tarfile.DIRTYPE)
    for depth in range(1, 41):
        add(tar, "srv/" + "deep/" * depth, tarfile.DIRTYPE)
    add(tar, "srv/" + "n" * 200, data=b"a long name\n")
    add(tar, "srv/ünï-ço∂é", data=b"not ascii\n", mtime=TIME_S + 0.123456789)
    add(tar, "opt", tarfile.REGTYPE, data=b"a folder no more\n")


def _link(tar: tarfile.TarFile) -> None:
    """Hard links inside the layer, to a lower layer's file, and symbolic links."""
    add(tar, "srv", tarfile.DIRTYPE)
    add(tar, "srv/one", data=b"linked\n", mode=0o640)
    add(tar, "srv/two", tarfile.LNKTYPE, linkname="srv/one", mode=0o640)
    add(tar, "srv/three", tarfile.LNKTYPE, linkname="srv/one", mode=0o640)
    add(tar, "srv/absolute", tarfile.SYMTYPE, linkname="/etc/hostname")
    add(tar, "srv/dangling", tarfile.SYMTYPE, linkname="../../../../nowhere")
    add(tar, "srv/long-target", tarfile.SYMTYPE, linkname="t" * 300)


def _special(tar: tarfile.TarFile) -> None:
    """File capabilities, xattrs, set-id bits, devices, a fifo; folders left out."""
    capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    add(tar, "srv", tarfile.DIRTYPE, mode=0o3777)
    add(
        tar,
        "srv/ping",
        data=b"#!/bin/sh\n",
        mode=0o755,
        pax_headers={"SCHILY.xattr.security.capability": capability},
    )
    add(tar, "srv/tagged", data=b"x", pax_headers={"SCHILY.xattr.user.note": "kept"})
    add(tar, "srv/suid", data=b"#!/bin/sh\n", mode=0o6755, uid=7, gid=8)
    add(tar, "srv/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add(tar, "srv/block", tarfile.BLKTYPE, devmajor=7, devminor=99, mode=0o660, gid=6)
    add(tar, "srv/fifo", tarfile.FIFOTYPE, mode=0o600)
    add(tar, "srv/empty")
    add(tar, "srv/zeros", data=bytes(3 << 20))
    add(tar, "tmp/in-a-folder-of-a-lower-layer", data=b"its mode stays\n")
    add(tar, "srv/made/for/it", data=b"in folders that no layer names\n")
    add(tar, "srv/high", data=b"x", uid=65534, gid=3_000_000)


def _write_image(folder: Path, layers: list[bytes]) -> None:
    (folder / "blobs" / "sha256").mkdir(parents=True)
    compressed = [isal.igzip.compress(layer) for layer in layers]
    config = image_config(
        layers, {"Cmd": ["/bin/bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(folder, "config.v1+json", config),
        "layers": [_blob(folder, "layer.v1.tar+gzip", layer) for layer in compressed],
    }
    target = _blob(folder, "manifest.v1+json", json.dumps(manifest).encode())
    target["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [target]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _blob(folder: Path, media_type: str, data: bytes) -> dict[str, Any]:
    name = digest(data)
    (folder / "blobs" / "sha256" / name.partition(":")[2]).write_bytes(data)
    return {
        "mediaType": f"application/vnd.oci.image.{media_type}",
        "digest": name,
        "size": len(data),
    }
