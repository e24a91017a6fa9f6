"""The layers of a build: made of what a step has written, and made ready for the next one."""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from orlop.engine.containers.written import written
from orlop.engine.context import Context
from orlop.engine.images.images import Images
from orlop.engine.threads import in_thread
from orlop.images.build import Draft, LayerWriter
from orlop.images.pull import Layer
from orlop.layers.write import Output
from orlop.model.container import Container
from orlop.model.digest import Digest
from orlop.snapshots.interface import LayerKey, layer_key
from orlop.snapshots.view import open_root
from orlop.store.leases import Lease

T = TypeVar("T")
_SMALL_BYTES = 1 << 20


class Layers:
    """Makes the layers of one build, which *lease* keeps."""

    def __init__(self, context: Context, images: Images, lease: Lease) -> None:
        self._context = context
        self._images = images
        self._lease = lease
        self._own: set[LayerKey] = set()  # small ones that this build has made, and unpacked
        self._known: set[LayerKey] = set()  # that are unpacked

    async def ready(self, image: Draft) -> None:
        """Have the image's layers ready to be mounted."""
        layers = layers_of(image)
        self._lease.add(*(layer.descriptor.digest for layer in layers))
        self._lease.add(*(Digest(layer.diff_id) for layer in layers))
        keys = keys_of(image)
        if self._context.snapshots.is_stacked(keys):
            return
        if keys and keys[-1] in self._own and not set(keys[:-1]) - self._known:
            await self._context.stacks.make_here(keys)
        else:
            await self._images.unpack(layers)
        self._known.update(keys)

    async def look(self, image: Draft, work: Callable[[int], T]) -> T:
        """Return what blocking *work* finds in the image's root, a descriptor, read-only."""

        def look() -> T:
            with self.root(image, readonly=True) as (_, root):
                return work(root)

        return await in_thread(look)

    async def change(self, image: Draft, work: Callable[[int], object]) -> Layer:
        """Return the layer of what blocking *work* changes in the image's root, a descriptor."""

        def change() -> _Made:
            with self.root(image, readonly=False) as (name, root):
                work(root)
                return self._written(
                    lambda out: self._context.snapshots.export_diff(name, keys_of(image), out)
                )

        return await self._added(await in_thread(change))

    async def of_container(self, container: Container) -> Layer:
        """Return the layer of what an ended container has written."""

        async with written(self._context, container) as files:
            made = await in_thread(self._written, files.export_diff)
        return await self._added(made)

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

    def _written(self, export: Callable[[Output], None]) -> "_Made":
        with LayerWriter(self._context.content, keep=self._lease.add) as writer:
            out = _Recorder(writer)
            export(out)
            return _Made(writer.finish(), bytes(out.tar) if out.is_small else None)

    async def _added(self, made: "_Made") -> Layer:
        """Unpack the layer here if it is small; else a worker does, when it is needed."""
        layer, tar = made
        self._lease.add(Digest(layer.diff_id))
        if tar is not None:
            await self._images.add_layer(layer, tar)
            self._own.add(layer_key(layer.diff_id))
        return layer


class _Made(NamedTuple):
    layer: Layer
    tar: bytes | None  # unless it is large


class _Recorder:
    """Passes a layer on to its writer, and keeps it as long as it is small."""

    def __init__(self, writer: LayerWriter) -> None:
        self._writer = writer
        self.tar = bytearray()
        self.is_small = True

    def write(self, data: bytes | memoryview, /) -> int:
        self.is_small = self.is_small and len(self.tar) + len(data) <= _SMALL_BYTES
        if self.is_small:
            self.tar += data
        else:
            self.tar.clear()
        return self._writer.write(data)


def layers_of(image: Draft) -> Sequence[Layer]:
    return list(map(Layer, image.layers, image.config.rootfs.diff_ids))


def keys_of(image: Draft) -> list[LayerKey]:
    return [layer_key(diff_id) for diff_id in image.config.rootfs.diff_ids]
