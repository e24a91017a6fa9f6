"""What a shim tells of all that it has: for an engine that is new, and for metrics."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orlop.runtime.ahead import Ahead
from orlop.shim.channel import LATER, Channel, Message
from orlop.shim.ends import Ends
from orlop.shim.process import Process
from orlop.shim.protocol import Counts
from orlop.shim.spawns import Spawns


class Listing:
    """Answers "list". Nothing is in it before it has a pid, so whoever asks earlier waits."""

    def __init__(self, processes: Mapping[str, Process], ends: Ends) -> None:
        self._processes = processes
        self._ends = ends
        self._waiting: list[tuple[Channel, Message]] = []

    def list(self, channel: Channel, message: Message) -> Any:
        """Op "list"."""
        self._waiting.append((channel, message))
        self.born()
        return LATER

    def born(self) -> None:
        """Answer those who wait, if all that is being started has a pid by now."""
        if not self._waiting or any(process.is_unborn for process in self._processes.values()):
            return
        waiting, self._waiting = self._waiting, []
        for channel, message in waiting:
            for item in (*_items(self._processes.values()), *self._ends.exits()):
                channel.send({"seq": message["seq"], "more": True, "ok": item})
            channel.send({"seq": message["seq"], "ok": None})


def _items(processes: Iterable[Process]) -> Iterator[dict[str, Any]]:
    """Give all that runs or is being started, and note that it was told.

    Starts are not waited for: whoever shares a pid namespace with a process can stop it on its
    way. An exec's is left out until it runs.
    """
    for process in processes:
        starts = process.starting is not None and process.is_init
        process.listed |= starts
        if process.running or starts:
            item = {"id": process.record["id"], "pid": process.record["pid"], "running": True}
            if "exec_id" in process.record:
                item["exec_id"] = process.record["exec_id"]
            if process.spawn is not None:
                item["sandbox"] = process.spawn.told()
            yield item


def counts(processes: Mapping[str, Process], ahead: Ahead, spawns: Spawns) -> Counts:
    """Count what is there, what is made ahead, and what waits."""
    there = processes.values()
    return Counts(
        processes={
            "starting": sum(process.starting is not None for process in there),
            "running": sum(process.running for process in there),
        },
        pools={
            "spare_cgroups": ahead.cgroups.pool.stock,
            "reserve_processes": ahead.processes.pool.stock,
            "recycled_cgroups": spawns.cgroups.pool.stock,
            "networks": spawns.networks.stock,
            "writable_layers": spawns.layers.stock,
            "launchers": spawns.launchers.stock,
        },
        queues={"launches": spawns.launchers.waiting},
    )
