"""Pull an image: from a reference to its documents and layers in the content store."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from orlop.errors import CorruptError, NotFoundError, UnsupportedError
from orlop.images.fetch import fetch_blob
from orlop.images.progress import Progress, silent
from orlop.images.registry import Registry
from orlop.model.digest import DiffID, Digest
from orlop.model.image import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_DOCUMENT_BYTES,
    Descriptor,
    ImageConfig,
    Manifest,
    choose,
    decode_config,
    decode_index,
    decode_manifest,
)
from orlop.model.platform import Platform, host_platform, preference
from orlop.model.reference import Reference
from orlop.store.content import Content

_MAX_DEPTH = 4

#: Protects digests from garbage collection: Lease.add. Called before a blob is looked for.
Keep = Callable[..., object]


def keep_nothing(*digests: Digest) -> None:
    """Hold no lease, if no garbage collection can run."""


class Layer(NamedTuple):
    descriptor: Descriptor
    diff_id: DiffID


class Resolved(NamedTuple):
    """An image for one platform; its documents are stored, its layers may not be."""

    target: Descriptor  # what the reference names: an index or a manifest
    descriptor: Descriptor  # of the manifest
    manifest: Manifest
    config: ImageConfig

    @property
    def layers(self) -> list[Layer]:
        """The layers, bottom first."""
        return list(map(Layer, self.manifest.layers, self.config.rootfs.diff_ids))


def resolve(
    registry: Registry,
    reference: Reference,
    content: Content,
    *,
    platform: Platform | None = None,
    keep: Keep = keep_nothing,
) -> Resolved:
    """Find the image for *platform* (default: this host) and store its documents.

    NotFoundError if there is none, UnsupportedError if it is not an image,
    CorruptError, UnavailableError, PermissionDeniedError.
    """
    search = _Search(registry, content, platform, keep)
    target, data = search.document(reference.target)
    descriptor, data = search.descend(reference, target, data)
    manifest = decode_manifest(data)
    if not manifest.is_image:
        raise UnsupportedError(
            f"{reference.familiar} is not a container image: {manifest.config.media_type[:100]}"
        )
    config = search.config(manifest.config)
    _check(reference, manifest, config)
    if platform is not None and config.platform not in search.wanted:
        raise _no_platform(reference, platform, [config.platform])
    return Resolved(target, descriptor, manifest, config)


def fetch_layers(
    registry: Registry,
    resolved: Resolved,
    content: Content,
    *,
    keep: Keep = keep_nothing,
    progress: Progress = silent,
    parallel: int = 4,
) -> None:
    """Make sure every layer's blob is in *content*.

    The first failure stops the others, and is raised. What came so far is kept
    for the next attempt.
    """
    keep(*(layer.digest for layer in resolved.manifest.layers))
    unique = {layer.digest: layer for layer in resolved.manifest.layers}
    stop = threading.Event()

    def fetch(layer: Descriptor) -> None:
        def consume(_: memoryview) -> None:
            if stop.is_set():
                raise _StoppedError

        if stop.is_set():
            return
        try:
            fetch_blob(registry, layer, content, progress=progress, consumer=consume)
        except _StoppedError:
            return
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(parallel, thread_name_prefix="fetch") as pool:
        for future in [pool.submit(fetch, layer) for layer in unique.values()]:
            future.result()


class _StoppedError(Exception):
    """Another layer failed."""


class _Search:
    """The search from a reference down to a configuration."""

    def __init__(
        self, registry: Registry, content: Content, platform: Platform | None, keep: Keep
    ) -> None:
        self._registry = registry
        self._content = content
        self._keep = keep
        self.platform = platform or host_platform()
        self.wanted = preference(self.platform)

    def document(self, target: str) -> tuple[Descriptor, bytes]:
        """Return and store a manifest or index."""
        descriptor, data = self._registry.manifest(target)
        self._keep(descriptor.digest)
        self._content.add(data)
        return descriptor, data

    def descend(
        self, reference: Reference, descriptor: Descriptor, data: bytes
    ) -> tuple[Descriptor, bytes]:
        """Follow indexes to the manifest for the platform."""
        for _ in range(_MAX_DEPTH):
            if descriptor.media_type not in INDEX_TYPES:
                return descriptor, data
            children = decode_index(data).manifests
            chosen = choose(children, self.wanted)
            if chosen is None:
                there = [child.platform for child in children if child.platform]
                raise _no_platform(reference, self.platform, there)
            descriptor, data = self._child(chosen)
        raise CorruptError(f"{reference.familiar} nests indexes too deeply")

    def config(self, descriptor: Descriptor) -> ImageConfig:
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise CorruptError(f"the image configuration {descriptor.digest} is too large")
        self._keep(descriptor.digest)
        fetch_blob(self._registry, descriptor, self._content)
        return decode_config(self._content.read(descriptor))

    def _child(self, chosen: Descriptor) -> tuple[Descriptor, bytes]:
        """Return a document that an index names; use the stored one if there is one."""
        self._keep(chosen.digest)
        known = chosen.media_type in INDEX_TYPES | MANIFEST_TYPES
        if known and self._content.has(chosen.digest, chosen.size):
            try:
                return chosen, self._content.read(chosen)
            except CorruptError:
                self._content.delete(chosen.digest)
        descriptor, data = self.document(chosen.digest)
        if descriptor.size != chosen.size:
            raise CorruptError(f"{chosen.digest} has {descriptor.size} bytes, not {chosen.size}")
        return (chosen if known else descriptor), data


def _check(reference: Reference, manifest: Manifest, config: ImageConfig) -> None:
    if len(manifest.layers) != len(config.rootfs.diff_ids):
        raise CorruptError(
            f"{reference.familiar} has {len(manifest.layers)} layers,"
            f" its configuration speaks of {len(config.rootfs.diff_ids)}"
        )


def _no_platform(reference: Reference, wanted: Platform, there: list[Platform]) -> NotFoundError:
    known = ", ".join(sorted({str(platform)[:50] for platform in there})[:20])
    return NotFoundError(
        f"{reference.familiar} has no image for {wanted}",
        hint=f"there is {known}" if known else None,
    )
