"""A real Debian image in five layers, made on this machine by debootstrap.

Layer 1 is the distribution; the others do to it what image builds do: delete,
replace, link, give capabilities, make devices. It is built once and kept in
the checkout's .cache folder, as an OCI layout with the tag "debian".
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import isal.igzip

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "debian-image-1"
TAG = "debian"
TIME_S = 1_700_000_000


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
    subprocess.run(
        ["debootstrap", "--variant=minbase", "stable", str(root)], check=True, capture_output=True
    )
    base = folder / "base.tar"
    keep = ["--xattrs", "--xattrs-include=*", "--numeric-owner"]
    leave = ["--exclude=./var/cache/apt/*.bin", "--exclude=./var/cache/apt/archives/*.deb"]
    subprocess.run(["tar", "-C", root, *keep, *leave, "-cf", base, "."], check=True)
    shutil.rmtree(root)
    layers = [base.read_bytes(), *(_layer(fill) for fill in (_delete, _replace, _link, _special))]
    base.unlink()
    _write_image(folder, layers)


def _layer(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        fill(tar)
    return out.getvalue()


def _add(
    tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mtime = kind, len(data), TIME_S
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(entry, field, value)
    tar.addfile(entry, io.BytesIO(data))


def _delete(tar: tarfile.TarFile) -> None:
    """Whiteouts of a file, of a folder, and of something in a folder named nowhere else."""
    _add(tar, "etc", tarfile.DIRTYPE)
    _add(tar, "etc/.wh.motd")
    _add(tar, "usr", tarfile.DIRTYPE)
    _add(tar, "usr/share", tarfile.DIRTYPE)
    _add(tar, "usr/share/.wh.doc")
    _add(tar, "usr/share/.wh.locale")
    _add(tar, "var", tarfile.DIRTYPE)
    _add(tar, "var/lib", tarfile.DIRTYPE)
    _add(tar, "var/lib/apt", tarfile.DIRTYPE)
    _add(tar, "var/lib/apt/lists", tarfile.DIRTYPE)
    _add(tar, "var/lib/apt/lists/.wh..wh..opq")


def _replace(tar: tarfile.TarFile) -> None:
    """An opaque folder with new content, a folder that becomes a file, long and odd names."""
    _add(tar, "usr", tarfile.DIRTYPE)
    _add(tar, "usr/share", tarfile.DIRTYPE)
    _add(tar, "usr/share/common-licenses", tarfile.DIRTYPE, mode=0o750, gid=42)
    _add(tar, "usr/share/common-licenses/.wh..wh..opq")
    _add(tar, "usr/share/common-licenses/NEW", data=b"only this\n", uid=1000, gid=1000)
    _add(tar, "usr/share/doc", tarfile.DIRTYPE)
    _add(tar, "usr/share/doc/again", data=b"the folder is back\n")
    _add(tar, "srv", tarfile.DIRTYPE)
    for depth in range(1, 41):
        _add(tar, "srv/" + "deep/" * depth, tarfile.DIRTYPE)
    _add(tar, "srv/" + "n" * 200, data=b"a long name\n")
    _add(tar, "srv/ünï-ço∂é", data=b"not ascii\n", mtime=TIME_S + 0.123456789)
    _add(tar, "opt", tarfile.REGTYPE, data=b"a folder no more\n")


def _link(tar: tarfile.TarFile) -> None:
    """Hard links inside the layer, to a lower layer's file, and symbolic links."""
    _add(tar, "srv", tarfile.DIRTYPE)
    _add(tar, "srv/one", data=b"linked\n", mode=0o640)
    _add(tar, "srv/two", tarfile.LNKTYPE, linkname="srv/one", mode=0o640)
    _add(tar, "srv/three", tarfile.LNKTYPE, linkname="srv/one", mode=0o640)
    _add(tar, "srv/absolute", tarfile.SYMTYPE, linkname="/etc/hostname")
    _add(tar, "srv/dangling", tarfile.SYMTYPE, linkname="../../../../nowhere")
    _add(tar, "srv/long-target", tarfile.SYMTYPE, linkname="t" * 300)


def _special(tar: tarfile.TarFile) -> None:
    """File capabilities, xattrs, set-id bits, devices, a fifo; folders left out."""
    capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    _add(tar, "srv", tarfile.DIRTYPE, mode=0o3777)
    _add(
        tar,
        "srv/ping",
        data=b"#!/bin/sh\n",
        mode=0o755,
        pax_headers={"SCHILY.xattr.security.capability": capability},
    )
    _add(tar, "srv/tagged", data=b"x", pax_headers={"SCHILY.xattr.user.note": "kept"})
    _add(tar, "srv/suid", data=b"#!/bin/sh\n", mode=0o6755, uid=7, gid=8)
    _add(tar, "srv/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    _add(tar, "srv/block", tarfile.BLKTYPE, devmajor=7, devminor=99, mode=0o660, gid=6)
    _add(tar, "srv/fifo", tarfile.FIFOTYPE, mode=0o600)
    _add(tar, "srv/empty")
    _add(tar, "srv/zeros", data=bytes(3 << 20))
    _add(tar, "tmp/in-a-folder-of-a-lower-layer", data=b"its mode stays\n")
    _add(tar, "srv/made/for/it", data=b"in folders that no layer names\n")
    _add(tar, "srv/high", data=b"x", uid=65534, gid=3_000_000)


def _write_image(folder: Path, layers: list[bytes]) -> None:
    (folder / "blobs" / "sha256").mkdir(parents=True)
    compressed = [isal.igzip.compress(layer) for layer in layers]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["/bin/bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
        "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(folder, "config.v1+json", json.dumps(config).encode()),
        "layers": [_blob(folder, "layer.v1.tar+gzip", layer) for layer in compressed],
    }
    target = _blob(folder, "manifest.v1+json", json.dumps(manifest).encode())
    target["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [target]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _blob(folder: Path, media_type: str, data: bytes) -> dict[str, Any]:
    digest = _digest(data)
    (folder / "blobs" / "sha256" / digest.partition(":")[2]).write_bytes(data)
    return {
        "mediaType": f"application/vnd.oci.image.{media_type}",
        "digest": digest,
        "size": len(data),
    }


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
