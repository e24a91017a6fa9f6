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


class Draft(NamedTuple):
    """An image in memory. Its layers are stored; its documents are not."""

    config: ImageConfig
    layers: tuple[Descriptor, ...] = ()  # bottom first
    is_docker: bool = False  # its documents have Docker's media types, as those of its base

    def extended(self, process: Process, history: History, layer: Layer | None = None) -> "Draft":
        """Return it with the settings *process*, one more step and perhaps one more layer.

        The step's `created` and author become the image's.
        """
        step = msgspec.structs.replace(history, empty_layer=layer is None)
        diff_ids, layers = self.config.rootfs.diff_ids, self.layers
        if layer is not None:
            kind = DOCKER_LAYER_GZIP if self.is_docker else OCI_LAYER_GZIP
            layers += (msgspec.structs.replace(layer.descriptor, media_type=kind),)
            diff_ids += (layer.diff_id,)
        config = msgspec.structs.replace(
            self.config,
            created=step.created,
            author=step.author,
            config=process,
            rootfs=RootFS("layers", diff_ids),
            history=(*self.config.history, step),
        )
        return self._replace(config=config, layers=layers)


def draft(base: Base | Platform | None = None) -> Draft:
    """Return an image that begins with *base*.

    A *base* that is only a platform has no layers; the default is the host's platform.
    """
    if isinstance(base, Base):
        platform, old = base.config.platform, base.config
        config = ImageConfig(
            architecture=platform.architecture,
            variant=platform.variant,
            os=platform.os,
            os_version=old.os_version,
            config=old.config,
            rootfs=RootFS("layers", old.rootfs.diff_ids),
            history=old.history,
        )
        is_docker = base.manifest.config.media_type == DOCKER_CONFIG
        return Draft(config, base.manifest.layers, is_docker)
    platform = base or host_platform()
    return Draft(
        ImageConfig(
            architecture=platform.architecture,
            variant=platform.variant,
            os=platform.os,
            rootfs=RootFS("layers", ()),
        )
    )


def store_image(content: Content, image: Draft, *, keep: Keep = keep_nothing) -> Built:
    """Store the documents of *image*."""
    media_type = DOCKER_CONFIG if image.is_docker else OCI_CONFIG
    described = _store(content, encode(image.config), media_type, keep)
    manifest = Manifest(
        schema_version=2,
        media_type=DOCKER_MANIFEST if image.is_docker else OCI_MANIFEST,
        config=described,
        layers=image.layers,
    )
    return Built(_store(content, encode(manifest), manifest.media_type, keep), described)


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
