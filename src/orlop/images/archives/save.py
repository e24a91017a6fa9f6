"""From the content store to an archive that Docker, skopeo, umoci and containerd read.

One form for all: an OCI layout, and beside it the manifest.json of `docker save`
whose paths lead to the same blobs. A manifest of Docker's schema 2 is written as
the OCI one that says the same, as umoci reads no other; the image's id stays.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import msgspec

from orlop.errors import AlreadyExistsError
from orlop.images.archives.load import CONTAINERD_NAME
from orlop.images.progress import Kind, Progress, silent
from orlop.layers.header import FILE, FOLDER, Entry
from orlop.layers.write import TarWriter
from orlop.model.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    REF_NAME,
    Descriptor,
    Index,
    Manifest,
    decode_config,
    decode_manifest,
    digest_of,
    encode,
)
from orlop.model.moments import rfc3339_ns
from orlop.model.reference import Reference
from orlop.store.content import Checker, Content
from orlop.store.faults import explained

_BLOCK = 1 << 20
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_OCI_TYPES = {
    DOCKER_CONFIG: OCI_CONFIG,
    DOCKER_LAYER: OCI_LAYER,
    DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
}


class Saved(NamedTuple):
    """An image to save, and the names to give it."""

    manifest: Descriptor
    names: tuple[Reference, ...] = ()


class _Sink(Protocol):
    def folder(self, name: str) -> None: ...

    def file(self, name: str, size: int, pieces: Iterable[bytes], *, mtime_ns: int = 0) -> None: ...


def save_tar(
    images: Sequence[Saved], content: Content, out: BinaryIO, *, progress: Progress = silent
) -> None:
    """Write *images* to *out* as a tar. CorruptError in the middle if a blob is damaged."""
    writer = TarWriter(out)
    _save(images, content, _TarSink(writer), progress)
    writer.close()


def save_folder(
    images: Sequence[Saved], content: Content, folder: Path, *, progress: Progress = silent
) -> None:
    """Write *images* into a new or empty *folder*; AlreadyExistsError if there is something."""
    with explained(f"{folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise AlreadyExistsError(f"{folder} is not empty")
        _save(images, content, _FolderSink(folder), progress)


def _save(images: Sequence[Saved], content: Content, sink: _Sink, progress: Progress) -> None:
    documents = [content.read(image.manifest) for image in images]
    manifests = [decode_manifest(document) for document in documents]
    times = _times(manifests, content)
    sink.file("oci-layout", len(_LAYOUT), [_LAYOUT])
    sink.folder("blobs")
    sink.folder("blobs/sha256")
    for blob in _blobs(manifests):
        size = content.size(blob.digest)
        sink.file(_path(blob), size, _read(content, blob), mtime_ns=times[blob.digest])
        progress(blob.digest, Kind.LOAD, size, size)
    images, documents = _all_oci(images, manifests, documents)
    for name, data in (
        *{_path(i.manifest): data for i, data in zip(images, documents, strict=True)}.items(),
        ("index.json", encode(_index(images))),
        ("manifest.json", msgspec.json.encode(_docker(images, manifests))),
    ):
        sink.file(name, len(data), [data])


def _times(manifests: Sequence[Manifest], content: Content) -> dict[str, int]:
    """Return by digest when each blob's image was made; the first counts, 0 if it does not say."""
    times: dict[str, int] = {}
    for manifest in manifests:
        created = decode_config(content.read(manifest.config)).created
        for blob in (*manifest.layers, manifest.config):
            times.setdefault(blob.digest, max(0, rfc3339_ns(created) or 0))
    return times


def _all_oci(
    images: Sequence[Saved], manifests: Sequence[Manifest], documents: Sequence[bytes]
) -> tuple[list[Saved], list[bytes]]:
    """Return *images* and their manifests' documents with none in Docker's form that need not."""
    found, written = [], []
    for image, manifest, document in zip(images, manifests, documents, strict=True):
        blobs = (manifest.config, *manifest.layers)
        if manifest.media_type == DOCKER_MANIFEST and all(
            b.media_type in _OCI_TYPES for b in blobs
        ):
            data = encode(_in_oci_terms(manifest))
            target = Descriptor(media_type=OCI_MANIFEST, digest=digest_of(data), size=len(data))
            found.append(image._replace(manifest=target))
            written.append(data)
        else:
            found.append(image)
            written.append(document)
    return found, written


def _in_oci_terms(manifest: Manifest) -> Manifest:
    def renamed(blob: Descriptor) -> Descriptor:
        return msgspec.structs.replace(blob, media_type=_OCI_TYPES[blob.media_type])

    return msgspec.structs.replace(
        manifest,
        media_type=OCI_MANIFEST,
        config=renamed(manifest.config),
        layers=tuple(renamed(layer) for layer in manifest.layers),
    )


def _blobs(manifests: Sequence[Manifest]) -> Iterator[Descriptor]:
    """Yield each layer and configuration once."""
    seen: set[str] = set()
    for manifest in manifests:
        for blob in (*manifest.layers, manifest.config):
            if blob.digest not in seen:
                seen.add(blob.digest)
                yield blob


def _read(content: Content, blob: Descriptor) -> Iterator[bytes]:
    check = Checker(blob.digest)
    with content.open(blob.digest) as file:
        while piece := file.read(_BLOCK):
            check.update(piece)
            yield piece
    check.finish()


def _index(images: Sequence[Saved]) -> Index:
    entries = []
    for image in images:
        bare = msgspec.structs.replace(image.manifest, annotations={})
        entries += [
            msgspec.structs.replace(
                bare, annotations={REF_NAME: _ref_name(name), CONTAINERD_NAME: str(name)}
            )
            for name in image.names
        ] or [bare]
    return Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(entries))


def _ref_name(name: Reference) -> str:
    """Return what an OCI layout calls an image of that name: its tag, as Docker writes it."""
    return name.tag or str(name)


def _docker(images: Sequence[Saved], manifests: Sequence[Manifest]) -> list[dict[str, object]]:
    return [
        {
            "Config": _path(manifest.config),
            "RepoTags": [name.familiar for name in image.names if name.tag and not name.digest],
            "Layers": [_path(layer) for layer in manifest.layers],
        }
        for image, manifest in zip(images, manifests, strict=True)
    ]


def _path(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.replace(':', '/')}"


class _TarSink:
    def __init__(self, writer: TarWriter) -> None:
        self._writer = writer

    def folder(self, name: str) -> None:
        self._writer.add(_entry(name + "/", FOLDER, 0o755, 0))

    def file(self, name: str, size: int, pieces: Iterable[bytes], *, mtime_ns: int = 0) -> None:
        self._writer.add(_entry(name, FILE, 0o644, size, mtime_ns=mtime_ns), pieces)


class _FolderSink:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, name: str) -> None:
        (self._folder / name).mkdir()

    def file(self, name: str, size: int, pieces: Iterable[bytes], *, mtime_ns: int = 0) -> None:
        with open(self._folder / name, "xb") as file:
            file.writelines(pieces)
            file.flush()
            if mtime_ns:
                os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))


def _entry(name: str, kind: bytes, mode: int, size: int, *, mtime_ns: int = 0) -> Entry:
    return Entry(name.encode(), kind, mode, 0, 0, size, size, mtime_ns, b"", 0, 0)
