"""Build images: a layer from a tar, and the documents for it."""

import hashlib
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
from isal import isal_zlib

from orlop.images.archives.members import Decompressed
from orlop.images.pull import Keep, Layer, keep_nothing
from orlop.layers.tar import Stream, TarReader
from orlop.model.digest import DiffID
from orlop.model.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    Process,
    RootFS,
    encode,
)
from orlop.model.platform import Platform, host_platform
from orlop.store.content import Content

_GZIP_WINDOW = 31  # zlib's value for a gzip header
_LEVEL = 1
_BLOCK = 1 << 20


class Base(NamedTuple):
    """The image that a new one is based on."""

    manifest: Manifest
    config: ImageConfig


class Built(NamedTuple):
    """A new image, stored."""

    descriptor: Descriptor  # of the manifest
    config: Descriptor


class LayerWriter:
    """A file for an uncompressed layer tar, stored as a gzip blob.

    A context manager; leaving it without finish() leaves nothing behind.
    """

    def __init__(self, content: Content, *, keep: Keep = keep_nothing) -> None:
        self._receiver = content.receiver(durable=True)
        self._keep = keep
        self._hash = hashlib.sha256()
        self._gzip = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        self._receiver.write(self._gzip.compress(data))
        return len(data)

    def finish(self) -> Layer:
        """Store the layer and return it."""
        self._receiver.write(self._gzip.flush())
        self._keep(self._receiver.digest)
        size = self._receiver.size
        descriptor = Descriptor(
            media_type=OCI_LAYER_GZIP, digest=self._receiver.commit(), size=size
        )
        return Layer(descriptor, DiffID(f"sha256:{self._hash.hexdigest()}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._receiver.__exit__(kind, error, trace)


def import_layer(stream: Stream, content: Content, *, keep: Keep = keep_nothing) -> Layer:
    """Store the tar of a root file system, compressed or not, as a layer.

    CorruptError, and nothing stored, if it is not a tar.
    """
    with LayerWriter(content, keep=keep) as writer:
        for _ in TarReader(_Tee(Decompressed(stream), writer)):
            pass
        return writer.finish()


def build_image(
    content: Content,
    process: Process,
    *,
    base: Base | Platform | None = None,
    layer: Layer | None = None,
    history: History,
    keep: Keep = keep_nothing,
) -> Built:
    """Store the documents of an image: *base*, then *layer*, with the settings *process*.

    A *base* that is only a platform has no layers; the default is the host's platform.
    *history* is the new step; its `created` becomes the image's.
    """
    added = (layer,) if layer else ()
    step = msgspec.structs.replace(history, empty_layer=layer is None)
    config = _config(base, added, process, step)
    base = base if isinstance(base, Base) else None
    data = encode(config)
    docker = base is not None and base.manifest.config.media_type == DOCKER_CONFIG
    described = _store(content, data, DOCKER_CONFIG if docker else OCI_CONFIG, keep)
    layers = base.manifest.layers if base else ()
    kind = DOCKER_LAYER_GZIP if docker else OCI_LAYER_GZIP
    new = tuple(msgspec.structs.replace(one.descriptor, media_type=kind) for one in added)
    manifest = Manifest(
        schema_version=2,
        media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
        config=described,
        layers=layers + new,
    )
    return Built(_store(content, encode(manifest), manifest.media_type, keep), described)


def _config(
    base: Base | Platform | None, added: tuple[Layer, ...], process: Process, step: History
) -> ImageConfig:
    platform = base.config.platform if isinstance(base, Base) else base or host_platform()
    base = base if isinstance(base, Base) else None
    diff_ids = base.config.rootfs.diff_ids if base else ()
    return ImageConfig(
        created=step.created,
        author=step.author,
        architecture=platform.architecture,
        variant=platform.variant,
        os=platform.os,
        os_version=base.config.os_version if base else "",
        config=process,
        rootfs=RootFS("layers", diff_ids + tuple(layer.diff_id for layer in added)),
        history=(*(base.config.history if base else ()), step),
    )


def _store(content: Content, data: bytes, media_type: str, keep: Keep) -> Descriptor:
    with content.receiver(durable=True) as receiver:
        receiver.write(data)
        keep(receiver.digest)
        digest = receiver.commit()
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


class _Tee:
    """Reads from one file, and writes everything to another."""

    def __init__(self, stream: Stream, out: LayerWriter) -> None:
        self._stream = stream
        self._out = out

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._out.write(data)
        return data
