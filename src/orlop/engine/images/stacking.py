"""Prepare an image's layers to be mounted together, in a worker, once."""

import asyncio
from collections.abc import Sequence

from orlop.engine.images.workers import Workers
from orlop.engine.settings import Settings
from orlop.images.job import StackJob
from orlop.model.digest import DiffID
from orlop.snapshots.interface import LayerKey, Snapshots


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

    async def _make(self, keys: tuple[LayerKey, ...]) -> None:
        job = StackJob(
            layers=tuple(map(DiffID, keys)),
            snapshots=str(self._settings.snapshots),
            driver=self._snapshots.name,
            budget=self._settings.layer_budget,
        )
        await self._workers.run(job)
        self._snapshots.find_stack(keys)
