"""What each container uses, read when somebody asks for the metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from orlop.engine.containers.cgroup import cgroup_of
from orlop.engine.containers.kind import kind_of
from orlop.engine.context import Context
from orlop.engine.threads import in_thread
from orlop.model.container import Container
from orlop.runtime.cgroups.interface import Load

#: Containers with figures of their own: bounds what a reading costs, and what its reader keeps.
MOST = 500

_LABEL = "container"


class Traffic(Protocol):
    """Who knows what goes through containers' interfaces."""

    async def traffic(self, containers: Sequence[Container]) -> Mapping[str, tuple[int, int]]:
        """Return how many bytes each has received and sent, by its id."""


class _Told(NamedTuple):
    """One reading, by the containers' names."""

    loads: Mapping[str, Load]
    traffic: Mapping[str, tuple[int, int]]
    left_out: int


class Loads:
    """The figures of containers that run, up to MOST of them; those beyond are counted.

    Sandboxes started by a recipe have none: so many come and go that their names would fill
    the reader's store.
    """

    def __init__(self, context: Context, traffic: Traffic) -> None:
        self._context = context
        self._traffic = traffic
        self._told = _Told({}, {}, 0)
        registry = context.telemetry.registry
        cpu = "CPU time used, user's and kernel's."
        memory = "Memory in use, without idle page cache."
        limit = "Limit of memory, where there is one."
        processes = "Processes and threads."
        total, gauge = registry.total, registry.gauge
        self._tell(total, "orlop_container_cpu_seconds_total", cpu, lambda load: load.cpu_ns / 1e9)
        self._tell(gauge, "orlop_container_memory_bytes", memory, lambda load: load.memory_bytes)
        self._tell(
            gauge, "orlop_container_memory_limit_bytes", limit, lambda load: load.memory_limit_bytes
        )
        self._tell(gauge, "orlop_container_processes", processes, lambda load: load.processes)
        self._tell_traffic()
        registry.gauge(
            "orlop_containers_left_out",
            f"Running containers beyond the first {MOST}, which have no figures of their own.",
            lambda: self._told.left_out,
        )

    def _tell_traffic(self) -> None:
        for place, (word, verb) in enumerate((("receive", "Received"), ("transmit", "Sent"))):
            self._context.telemetry.registry.total(
                f"orlop_container_network_{word}_bytes_total",
                f"{verb} through interfaces on networks.",
                lambda place=place: {n: seen[place] for n, seen in self._told.traffic.items()},  # type: ignore[misc]
                _LABEL,
                most=MOST,
            )

    def _tell(
        self, family: Callable[..., None], name: str, text: str, of: Callable[[Load], float]
    ) -> None:
        """Tell one figure of each container; a negative one is left out."""

        def read() -> dict[str, float]:
            figures = {name: of(load) for name, load in self._told.loads.items()}
            return {name: figure for name, figure in figures.items() if figure >= 0}

        family(name, text, read, _LABEL, most=MOST)

    async def read(self) -> None:
        """Read all that is told next."""
        every = self._context.records.all()
        found = [one for one in every if one.running and kind_of(one).has_own_cgroup]
        some = found[:MOST]
        loads = await in_thread(lambda: {one.name: cgroup_of(one).load() for one in some})
        traffic = await self._traffic.traffic(some)
        by_name = {one.name: traffic[one.id] for one in some if one.id in traffic}
        self._told = _Told(loads, by_name, len(found) - len(some))
