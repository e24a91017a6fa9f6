"""The layers of a build: made of what a step has written, and made ready for the next one."""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from orlop.engine.containers.written import written
from orlop.engine.context import Context
from orlop.engine.images.images import Images
from orlop.engine.threads import in_thread
from orlop.images.build import Draft, LayerWriter
from orlop.images.pull import Layer
from orlop.model.container import Container
from orlop.model.digest import Digest
from orlop.snapshots.interface import LayerKey, layer_key
from orlop.snapshots.view import open_root
from orlop.store.leases import Lease

T = TypeVar("T")


class Layers:
    """Makes the layers of one build, which *lease* keeps."""

    def __init__(self, context: Context, images: Images, lease: Lease) -> None:
        self._context = context
        self._images = images
        self._lease = lease

    async def ready(self, image: Draft) -> None:
        """Have the image's layers ready to be mounted."""
        layers = layers_of(image)
        self._lease.add(*(layer.descriptor.digest for layer in layers))
        self._lease.add(*(Digest(layer.diff_id) for layer in layers))
        if not self._context.snapshots.is_stacked(keys_of(image)):
            await self._images.unpack(layers)

    async def look(self, image: Draft, work: Callable[[int], T]) -> T:
        """Return what blocking *work* finds in the image's root, a descriptor, read-only."""

        def look() -> T:
            with self.root(image, readonly=True) as (_, root):
                return work(root)

        return await in_thread(look)

    async def change(self, image: Draft, work: Callable[[int], object]) -> Layer:
        """Return the layer of what blocking *work* changes in the image's root, a descriptor."""

        def change() -> Layer:
            with self.root(image, readonly=False) as (name, root):
                work(root)
                with self._writer() as writer:
                    self._context.snapshots.export_diff(name, keys_of(image), writer)
                    return writer.finish()

        return await in_thread(change)

    async def of_container(self, container: Container) -> Layer:
        """Return the layer of what an ended container has written."""

        def export() -> Layer:
            with self._writer() as writer:
                files.export_diff(writer)
                return writer.finish()

        async with written(self._context, container) as files:
            return await in_thread(export)

    @contextmanager
    def root(self, image: Draft, *, readonly: bool) -> Iterator[tuple[str, int]]:
        """Make a snapshot, which is removed at the end; yield its name and its open root."""
        snapshots, keys = self._context.snapshots, keys_of(image)
        name = f"build-{secrets.token_hex(8)}"
        snapshots.prepare(name, keys)
        try:
            root = open_root(snapshots.mounts(name, keys, readonly=readonly))
            try:
                yield name, root
            finally:
                os.close(root)
        finally:
            snapshots.remove(name)

    def _writer(self) -> LayerWriter:
        return LayerWriter(self._context.content, keep=self._lease.add)


def layers_of(image: Draft) -> Sequence[Layer]:
    return list(map(Layer, image.layers, image.config.rootfs.diff_ids))


def keys_of(image: Draft) -> list[LayerKey]:
    return [layer_key(diff_id) for diff_id in image.config.rootfs.diff_ids]
