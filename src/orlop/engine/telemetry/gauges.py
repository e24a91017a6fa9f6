"""What the engine's gauges read: containers, what is made ahead, and what waits."""

import asyncio
import collections
from collections.abc import Mapping

from orlop import __version__
from orlop.engine.context import Context
from orlop.engine.threads import under_way
from orlop.errors import OrlopError
from orlop.model.container import Status

_PATIENCE_S = 1.0  # with a shim that is busy: its figures are left out then


class Gauges:
    """Reads what is the case now, when somebody asks for the metrics."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: Mapping[str, float] = {}  # by the shim, last
        telemetry = context.telemetry
        registry = telemetry.registry
        registry.gauge("orlop_containers", "Containers, by status.", self._containers, "status")
        registry.gauge(
            "orlop_processes", "Processes that the shim holds, by state.", self._processes, "state"
        )
        registry.gauge(
            "orlop_build_info", "1, with the version.", lambda: {__version__: 1}, "version"
        )
        telemetry.pools["snapshots"] = context.snapshots.ready
        telemetry.pools["spare_cgroups"] = lambda: self._told.get("spare_cgroups", 0)
        telemetry.pools["reserve_processes"] = lambda: self._told.get("reserve_processes", 0)
        telemetry.queues["shim_requests"] = lambda: context.shim.waiting
        telemetry.queues["blocking_calls"] = under_way

    async def text(self, *, openmetrics: bool) -> str:
        """Return all metrics, those of the shim's with them if it answers soon."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                self._told = await self._context.shim.request({"op": "counts"})
        except (OrlopError, TimeoutError):
            self._told = {}
        return self._context.telemetry.registry.text(openmetrics=openmetrics)

    def _containers(self) -> Mapping[str, float]:
        counts = collections.Counter(c.status.value for c in self._context.records.all())
        return {status.value: counts[status.value] for status in Status}

    def _processes(self) -> Mapping[str, float]:
        return {state: self._told.get(state, 0) for state in ("starting", "running")}
