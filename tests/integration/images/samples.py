"""Small images, made here."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import zstandard

from orlop.model import image as documents
from orlop.model.digest import DiffID
from orlop.model.image import Descriptor, ImageConfig, Manifest, Process, RootFS, digest_of
from orlop.model.platform import Platform, host_platform
from orlop.store.content import Content
from orlop.store.metadata import ImageRecord

ENCODERS = {
    documents.OCI_LAYER: lambda data: data,
    documents.OCI_LAYER_GZIP: gzip.compress,
    documents.OCI_LAYER_ZSTD: zstandard.ZstdCompressor().compress,
}


class Sample(NamedTuple):
    record: ImageRecord
    manifest: Manifest


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def stored(content: Content, data: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=content.add(data), size=len(data))


def make(
    content: Content,
    name: str = "docker.io/library/sample:1",
    layers: Iterable[bytes] = (),
    *,
    media_type: str = documents.OCI_LAYER_GZIP,
    platform: Platform | None = None,
) -> Sample:
    """Store an image with *layers* (uncompressed tars)."""
    platform = platform or host_platform()
    plain = list(layers) or [tar_of({"hello": b"world"})]
    config = ImageConfig(
        created="2026-01-02T03:04:05Z",
        architecture=platform.architecture,
        variant=platform.variant,
        os=platform.os,
        config=Process(cmd=("/hello",), env=("A=1",), labels={"made": "here"}),
        rootfs=RootFS("layers", tuple(DiffID(digest_of(layer)) for layer in plain)),
    )
    manifest = Manifest(
        schema_version=2,
        media_type=documents.OCI_MANIFEST,
        config=stored(content, documents.encode(config), documents.OCI_CONFIG),
        layers=tuple(stored(content, ENCODERS[media_type](one), media_type) for one in plain),
    )
    target = stored(content, documents.encode(manifest), documents.OCI_MANIFEST)
    record = ImageRecord(
        name=name, target=target, manifest=target, config=manifest.config.digest, created_ns=1
    )
    return Sample(record, manifest)


def make_index(content: Content, samples: dict[str, Sample], name: str) -> ImageRecord:
    """Store an index over *samples* by platform text, and an attestation as BuildKit adds one."""
    entries = []
    for text, sample in samples.items():
        system, architecture, *variant = text.split("/")
        platform = {"os": system, "architecture": architecture}
        platform |= {"variant": variant[0]} if variant else {}
        descriptor = json.loads(documents.encode(sample.record.target))
        entries.append(descriptor | {"platform": platform})
    data = json.dumps(
        {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": entries}
    ).encode()
    first = next(iter(samples.values())).record
    return ImageRecord(
        name=name,
        target=stored(content, data, documents.OCI_INDEX),
        manifest=first.manifest,
        config=first.config,
        created_ns=1,
    )


def store(folder: Path) -> Content:
    return Content.create(folder)
