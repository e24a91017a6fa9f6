"""What the cache of builds keeps, and what of it can go. It blocks."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from orlop.engine.answers import CacheItem
from orlop.engine.context import Context
from orlop.engine.volumes import tree_size
from orlop.errors import CorruptError, NotFoundError
from orlop.layers.removal import remove_tree
from orlop.model.image import decode_config, decode_manifest

#: What the cache keeps by itself after each build.
MOST_BYTES = 20 << 30
MOST_AGE_NS = 30 * 24 * 3600 * 1_000_000_000


class Policy(NamedTuple):
    """What prune() removes."""

    everything: bool = False  # also what an image has
    until_ns: int = 0  # only what was last used before; 0: whenever it was
    keep_bytes: int = 0  # not more than what exceeds this, the longest unused first


def items(context: Context) -> list[CacheItem]:
    """Return the layers that the cache keeps, and the folders of its mounts."""
    sizes = {layer.key: layer.size for layer in context.metadata.layers.list()}
    shared = _of_images(context)
    found = [
        CacheItem(
            key=record.key,
            what=record.what,
            size=record.blob.size + sizes.get(record.diff_id, 0),
            created_ns=record.created_ns,
            used_ns=record.used_ns,
            uses=record.uses,
            shared=record.diff_id in shared,
        )
        for record in context.metadata.builds.list()
        if record.diff_id is not None
    ]
    folder = context.settings.build_caches
    return found + [_mount(path) for path in (folder.iterdir() if folder.exists() else ())]


def prune(context: Context, policy: Policy, *, unused: Sequence[Path]) -> tuple[list[str], int]:
    """Remove records and the *unused* folders of mounts as *policy* says.

    Returns their keys, and the bytes of the folders. What the records kept is garbage then.
    """
    every = sorted(items(context), key=lambda item: item.used_ns)
    left = sum(item.size for item in every if not item.shared)
    folders = {path.name: path for path in unused}
    removed: list[str] = []
    freed = 0
    for item in every:
        if left <= policy.keep_bytes and policy.keep_bytes:
            break
        if policy.until_ns and item.used_ns > policy.until_ns:
            break
        if item.shared and not policy.everything:
            continue
        if item.is_mount and item.key not in folders:
            continue
        if item.is_mount:
            remove_tree(str(folders[item.key]))
            freed += item.size
        else:
            context.metadata.builds.remove(item.key)
        left -= item.size
        removed.append(item.key)
    _remove_images(context, policy)
    return removed, freed


def is_too_large(context: Context) -> bool:
    """Whether the cache has more, or older things, than it keeps by itself."""
    every = items(context)
    oldest = min((item.used_ns for item in every), default=time.time_ns())
    size = sum(item.size for item in every if not item.shared)
    return size > MOST_BYTES or time.time_ns() - oldest > MOST_AGE_NS


def _remove_images(context: Context, policy: Policy) -> None:
    """Forget which steps made which image, unless it was used lately."""
    for record in context.metadata.builds.list():
        if record.diff_id is None and not (policy.until_ns and record.used_ns > policy.until_ns):
            context.metadata.builds.remove(record.key)


def _of_images(context: Context) -> set[str]:
    found: set[str] = set()
    for image in context.metadata.images.list():
        try:
            manifest = decode_manifest(context.content.read(image.manifest))
            found.update(decode_config(context.content.read(manifest.config)).rootfs.diff_ids)
        except (NotFoundError, CorruptError):
            continue
    return found


def _mount(path: Path) -> CacheItem:
    status = path.stat()
    return CacheItem(
        key=path.name,
        what="RUN --mount=type=cache",
        size=tree_size(path),
        created_ns=status.st_ctime_ns,
        used_ns=status.st_mtime_ns,
        is_mount=True,
    )
