"""Prepare an image's layers to be mounted together, in a worker, once."""

import asyncio
from collections.abc import Sequence

from orlop.engine.images.workers import Workers
from orlop.engine.settings import Settings
from orlop.engine.threads import in_thread
from orlop.errors import ExhaustedError
from orlop.images.job import StackJob
from orlop.layers.budget import DEFAULT
from orlop.model.digest import DiffID
from orlop.snapshots.interface import LayerKey, Snapshots

#: What a stack may ask for to be made in the engine's own process.
_LITTLE = DEFAULT._replace(entries=1000, processor_s=1)


class Stacks:
    """The stacks of layers that are ready to be mounted."""

    def __init__(self, settings: Settings, snapshots: Snapshots, workers: Workers) -> None:
        self._settings = settings
        self._snapshots = snapshots
        self._workers = workers
        self._made: dict[tuple[LayerKey, ...], asyncio.Task[None]] = {}

    async def make_ready(self, layers: Sequence[LayerKey]) -> None:
        """Prepare *layers*, so that the driver's prepare() and mounts() of them are quick.

        The layers are unpacked, and the caller holds a lease. ExhaustedError if that
        exceeds the budget.
        """
        if self._snapshots.is_stacked(layers) or self._snapshots.find_stack(layers):
            return
        keys = tuple(layers)
        task = self._made.get(keys)
        if task is None:
            task = self._made[keys] = asyncio.ensure_future(self._make(keys))
            task.add_done_callback(lambda _: self._made.pop(keys, None))
        await asyncio.shield(task)

    async def make_here(self, layers: Sequence[LayerKey]) -> None:
        """As make_ready(), in this process if that takes little; a worker takes longer to ask."""
        if self._snapshots.is_stacked(layers):
            return
        try:
            await in_thread(self._snapshots.stack, layers, budget=_LITTLE)
        except ExhaustedError:
            await self.make_ready(layers)

    async def _make(self, keys: tuple[LayerKey, ...]) -> None:
        job = StackJob(
            layers=tuple(map(DiffID, keys)),
            snapshots=str(self._settings.snapshots),
            driver=self._snapshots.name,
            budget=self._settings.layer_budget,
        )
        await self._workers.run(job)
        self._snapshots.find_stack(keys)
