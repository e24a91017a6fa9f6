"""What the engine's gauges read: containers, what is made ahead, and what waits."""

import asyncio
import collections
import functools
from collections.abc import Mapping

from orlop import __version__
from orlop.engine.context import Context
from orlop.engine.telemetry.loads import Loads, Traffic
from orlop.engine.threads import under_way
from orlop.errors import OrlopError
from orlop.model.container import Status
from orlop.model.pool import Stock
from orlop.shim.protocol import Counts

_PATIENCE_S = 5.0  # with a shim that is busy: its figures are left out then
_COUNTS = {"op": "counts"}
_NOTHING = Counts(processes={}, pools={}, queues={})


class Gauges:
    """Reads what is the case now, when somebody asks for the metrics."""

    def __init__(self, context: Context, traffic: Traffic) -> None:
        self._context = context
        self._loads = Loads(context, traffic)
        self._told = _NOTHING  # by the shim, last
        telemetry = context.telemetry
        registry = telemetry.registry
        registry.gauge("orlop_containers", "Containers, by status.", self._containers, "status")
        registry.gauge(
            "orlop_processes", "Processes of containers, by state.", self._processes, "state"
        )
        registry.gauge(
            "orlop_build_info", "1, with the version.", lambda: {__version__: 1}, "version"
        )
        telemetry.pools["snapshots"] = context.snapshots.ahead
        telemetry.queues["shim_requests"] = lambda: context.shim.waiting
        telemetry.queues["blocking_calls"] = under_way

    async def text(self, *, openmetrics: bool) -> str:
        """Return all metrics, those of the shim's with them if it answers soon."""
        telemetry, before = self._context.telemetry, self._told
        self._told = await self._asked()
        await self._loads.read()
        for name in before["pools"]:
            telemetry.pools.pop(name, None)
        for name, stock in self._told["pools"].items():
            telemetry.pools[name] = functools.partial(Stock, *stock)
        for name in before["queues"]:
            telemetry.queues.pop(name, None)
        for name, number in self._told["queues"].items():
            telemetry.queues[name] = functools.partial(float, number)
        return telemetry.registry.text(openmetrics=openmetrics)

    async def _asked(self) -> Counts:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                told: Counts = await self._context.shim.request(_COUNTS)
        except (OrlopError, TimeoutError):
            return _NOTHING
        return told

    def _containers(self) -> Mapping[str, float]:
        counts = collections.Counter(c.status.value for c in self._context.records.all())
        return {status.value: counts[status.value] for status in Status}

    def _processes(self) -> Mapping[str, float]:
        return self._told["processes"]
