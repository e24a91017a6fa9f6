"""Fetch and unpack layers: all of an image in parallel, each of them once."""

import asyncio
import io
import time
from collections.abc import Callable, Iterable

from orlop.engine.context import Context
from orlop.engine.images.catalog import Catalog
from orlop.engine.images.stacking import Stacks
from orlop.engine.threads import in_thread
from orlop.errors import ExhaustedError
from orlop.images.job import Job, Report
from orlop.images.progress import Kind
from orlop.images.pull import Layer
from orlop.images.registry import Source
from orlop.model.digest import Digest
from orlop.snapshots.interface import Snapshots, layer_key
from orlop.store.metadata import LayerRecord

_MOST_LAYERS = 498  # overlay's own limit is 500, with two of the snapshot driver's

#: Called in the event loop: a layer, what happens to it, bytes done and in total.
#: Kind.EXISTS means it was stored already; done == total of UNPACK that it is ready.
LayerListener = Callable[[Digest, Kind, int, int], None]


class Unpacker:
    """Stores layers in the content store and in the snapshot driver."""

    def __init__(
        self,
        context: Context,
        catalog: Catalog,
        *,
        snapshots: Snapshots | None = None,
        stacks: Stacks | None = None,
    ) -> None:
        """Store in the engine's driver, or in *snapshots* with its *stacks*."""
        self._context = context
        self._snapshots = snapshots or context.snapshots
        self._stacks = stacks or context.stacks
        self._catalog = catalog
        self._flights: dict[Digest, _Flight] = {}
        self._syncing: asyncio.Task[None] | None = None

    async def unpack(
        self, layers: Iterable[Layer], *, source: Source | None, listener: LayerListener
    ) -> None:
        """Prepare an image's *layers*, from *source* or, if that is None, from stored blobs.

        They are in the image's order, bottom first. The caller holds a lease. The first
        failure is raised and stops the others, unless another image waits for them too.
        """
        layers = list(layers)
        if len(layers) > _MOST_LAYERS:
            raise ExhaustedError(f"image has {len(layers)} layers, more than {_MOST_LAYERS}")
        unique = {layer.descriptor.digest: layer for layer in layers}
        tasks = [
            asyncio.ensure_future(self._ready(layer, source, listener)) for layer in unique.values()
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._stacks.make_ready([layer_key(layer.diff_id) for layer in layers])
        self._sync_soon()

    async def add(self, layer: Layer, tar: bytes) -> None:
        """Unpack a layer that this engine has just made and stored, from its small *tar*.

        A layer of others is unpacked by a worker: only this engine wrote this one.
        """
        key = layer_key(layer.diff_id)
        size = await in_thread(self._snapshots.add_layer, key, io.BytesIO(tar))
        record = LayerRecord(self._snapshots.name, key, size, time.time_ns())
        await in_thread(self._context.metadata.layers.put, record)
        self._catalog.changed()
        self._sync_soon()

    def _sync_soon(self) -> None:
        if self._syncing is None or self._syncing.done():
            self._syncing = self._context.spawn(in_thread(self._snapshots.sync))

    async def _ready(self, layer: Layer, source: Source | None, listener: LayerListener) -> None:
        descriptor, key = layer.descriptor, layer_key(layer.diff_id)
        context = self._context
        has_blob = context.content.has(descriptor.digest, descriptor.size)
        if has_blob and await in_thread(self._snapshots.has_layer, key):
            listener(descriptor.digest, Kind.EXISTS, descriptor.size, descriptor.size)
            return
        flight = self._flights.get(descriptor.digest)
        if flight is None:
            flight = _Flight()
            self._flights[descriptor.digest] = flight
            flight.task = asyncio.ensure_future(self._fly(layer, source, flight))
        await flight.join(listener)

    async def _fly(self, layer: Layer, source: Source | None, flight: "_Flight") -> None:
        descriptor, key = layer.descriptor, layer_key(layer.diff_id)
        settings, driver = self._context.settings, self._snapshots.name
        job = Job(
            layer=descriptor,
            diff_id=layer.diff_id,
            content=str(settings.content),
            snapshots=str(settings.snapshots),
            driver=driver,
            budget=settings.layer_budget,
            source=source,
        )

        def told(report: Report) -> None:
            flight.tell(descriptor.digest, Kind(report.kind), report.done, report.total)

        try:
            size = await self._context.workers.run(job, told)
        except BaseException:
            self._context.sweep_soon()  # the remains of a killed worker
            raise
        finally:
            self._flights.pop(descriptor.digest, None)
        self._context.metadata.layers.put(LayerRecord(driver, key, size, time.time_ns()))
        self._catalog.changed()
        flight.tell(descriptor.digest, Kind.UNPACK, descriptor.size, descriptor.size)


class _Flight:
    """One layer in progress, and its waiters."""

    def __init__(self) -> None:
        self.task: asyncio.Future[None]
        self._listeners: list[LayerListener] = []

    def tell(self, digest: Digest, kind: Kind, done: int, total: int) -> None:
        for listener in self._listeners:
            listener(digest, kind, done, total)

    async def join(self, listener: LayerListener) -> None:
        """Wait for the layer; when the last waiter is cancelled, so is the work."""
        self._listeners.append(listener)
        try:
            await asyncio.shield(self.task)
        finally:
            self._listeners.remove(listener)
            if not self._listeners and not self.task.done():
                self.task.cancel()
                await asyncio.wait({self.task})
