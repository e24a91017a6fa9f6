"""Garbage collection of everything that no image, container, build cache or lease needs.

Marking starts from the records and follows manifests down to layers; sweeping removes the
rest. Blobs of a running download are leased; leases.py explains why there are no races. An
interrupted collection leaves nothing half done: the next one finds the same garbage.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from orlop.errors import CorruptError, NotFoundError
from orlop.model.container import Container
from orlop.model.digest import Digest
from orlop.model.image import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    decode_config,
    decode_index,
    decode_manifest,
)
from orlop.store.content import Content
from orlop.store.metadata import ImageRecord, Metadata


class Live(NamedTuple):
    """Everything that must stay."""

    blobs: set[Digest]
    layers: set[str]  # diff_ids of images' layers, and the layer keys of containers


class Item(NamedTuple):
    """Something that a sweeper may remove."""

    key: str
    size: int  # bytes


class Sweeper(NamedTuple):
    """A kind of item that is stored outside the content store.

    *items* lists all of them, *live* returns those that must stay according to the marks,
    *remove* removes one; a missing one counts as removed.
    """

    kind: str
    items: Callable[[], Iterable[Item]]
    live: Callable[[Live, str], bool]
    remove: Callable[[str], None]


class Garbage(NamedTuple):
    """What one collection removed, or would remove: (kind, key) and bytes."""

    removed: list[tuple[str, str]]
    reclaimed_bytes: int


def collect(
    content: Content,
    metadata: Metadata,
    *,
    sweepers: Sequence[Sweeper] = (),
    partial: bool = True,
    dry_run: bool = False,
) -> Garbage:
    """Remove everything that is not needed, and return what that was.

    This includes interrupted downloads unless *partial* is false: a later pull would
    continue them. With *dry_run* nothing is removed.
    """
    with metadata.leases.closed():
        live = mark(content, metadata)
        every = [*_content_sweepers(content, partial=partial), *sweepers]
        garbage = Garbage([], 0)
        for sweeper in every:
            garbage = _sweep(sweeper, live, garbage, dry_run=dry_run)
    return garbage


def mark(content: Content, metadata: Metadata) -> Live:
    """Return everything that images, containers, the cache of builds and leases need."""
    live = Live(set(), set())
    for image in metadata.images.list():
        mark_image(content, image, live)
    for container in metadata.containers.list():
        _mark_container(container, live)
    for record in metadata.builds.list():
        _follow(content, record.blob, live)
        if record.diff_id is not None:
            live.layers.add(record.diff_id)
    for digest in metadata.leases.digests():
        live.blobs.add(digest)
        live.layers.add(digest)
    if metadata.has_clients:
        live.blobs.update(metadata.clients.live_blobs())
        live.layers.update(metadata.clients.live_layers())
    return live


def mark_image(content: Content, image: ImageRecord, live: Live) -> None:
    """Add one image's stored parts to *live*: its blobs and the diff_ids of its layers."""
    _follow(content, image.target, live)
    _follow(content, image.manifest, live)


def _mark_container(container: Container, live: Live) -> None:
    live.layers.update(container.layers)
    if container.image.startswith("sha256:"):
        live.blobs.add(Digest(container.image))


def _follow(content: Content, descriptor: Descriptor, live: Live, depth: int = 0) -> None:
    """Mark a descriptor and everything it refers to. Missing or damaged blobs are skipped."""
    if depth > 4:  # an index of indexes of …; no image needs more
        return
    live.blobs.add(descriptor.digest)
    if descriptor.media_type not in INDEX_TYPES | MANIFEST_TYPES:
        return
    try:
        data = content.read(descriptor)
        if descriptor.media_type in INDEX_TYPES:
            for child in decode_index(data).manifests:
                if content.has(child.digest):
                    _follow(content, child, live, depth + 1)
            return
        manifest = decode_manifest(data)
        live.blobs.update(layer.digest for layer in manifest.layers)
        live.blobs.add(manifest.config.digest)
        if manifest.is_image:
            live.layers.update(decode_config(content.read(manifest.config)).rootfs.diff_ids)
    except (NotFoundError, CorruptError):
        return


def _content_sweepers(content: Content, *, partial: bool) -> list[Sweeper]:
    blobs = Sweeper(
        "blob",
        items=lambda: [Item(blob.digest, blob.size) for blob in content.walk()],
        live=lambda live, key: key in live.blobs,
        remove=lambda key: content.delete(Digest(key)),
    )
    ingests = Sweeper(
        "ingest",
        items=lambda: [Item(ingest.name, ingest.size) for ingest in content.abandoned()],
        live=lambda live, key: f"sha256:{key}" in live.blobs,
        remove=content.discard,
    )
    return [blobs, ingests] if partial else [blobs]


def _sweep(sweeper: Sweeper, live: Live, garbage: Garbage, *, dry_run: bool) -> Garbage:
    reclaimed = garbage.reclaimed_bytes
    for item in sweeper.items():
        if sweeper.live(live, item.key):
            continue
        if not dry_run:
            sweeper.remove(item.key)
        garbage.removed.append((sweeper.kind, item.key))
        reclaimed += item.size
    return Garbage(garbage.removed, reclaimed)
