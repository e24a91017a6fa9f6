"""What runs in a container: `top` and `stats`."""

import asyncio
import re
from collections.abc import Iterator, Sequence

from orlop.engine.answers import Processes
from orlop.engine.containers.cgroup import cgroup_of, running_cgroup
from orlop.engine.containers.kind import kind_of, refuse_in_machine
from orlop.engine.context import Context
from orlop.engine.threads import in_thread
from orlop.errors import InvalidArgumentError, NotRunningError, OrlopError
from orlop.model.container import Container
from orlop.runtime.cgroups import Statistics
from orlop.runtime.cgroups.interface import BlockStatistics

_ARGUMENT = re.compile(r"[a-zA-Z0-9%=:,_. -]*")
_TIMEOUT_S = 10
_FIGURES = 5  # of usage
#: How names of what memory.stat counts since the cgroup was made begin; the rest is of now.
_EVENTS = ("pg", "workingset_", "thp_", "zswp", "swpin", "swpout", "pswp", "numa_")


class Inside:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def top(self, container: Container, ps_args: str) -> Processes:
        """Return what ps(1), asked with *ps_args*, says of the container's processes."""
        _check_running(container)
        refuse_in_machine(container, "top")
        if not _ARGUMENT.fullmatch(ps_args):
            raise InvalidArgumentError(f"invalid ps arguments {ps_args[:100]!r}")
        pids = set(await in_thread(lambda: list(cgroup_of(container).pids())))
        text = await _run_ps(ps_args.split() or ["-ef"])
        lines = text.splitlines()
        titles = lines[0].split() if lines else []
        if "PID" not in titles:
            raise InvalidArgumentError("Couldn't find PID field in ps output")
        rows = tuple(_rows(lines[1:], titles, pids))
        return Processes(titles=tuple(titles), rows=rows)

    async def stats(self, container: Container) -> Statistics:
        _check_running(container)
        with running_cgroup(container) as cgroup:
            counted = await in_thread(cgroup.statistics)
        if kind_of(container).has_own_cgroup:
            return counted
        return _own(counted, await self._used(container))

    async def usage(self, container: Container) -> Sequence[int]:
        """Return what all that has run in it has used: numbers as in shim/usage.py."""
        if kind_of(container).has_own_cgroup:
            return _figures(await self.stats(container))
        return (await self._used(container))[:_FIGURES]

    async def _used(self, container: Container) -> list[int]:
        used: list[int] = await self._context.shim.request({"op": "usage", "id": container.id})
        return used


def _check_running(container: Container) -> None:
    if not container.running:
        raise NotRunningError(f"Container {container.id} is not running")


def _figures(counted: Statistics) -> list[int]:
    cpu, io = counted.cpu, counted.io_bytes
    read, written = (sum(c.value for c in io if c.operation == way) for way in ("read", "write"))
    return [cpu.user_ns // 1000, cpu.system_ns // 1000, counted.memory.peak_bytes, read, written]


def _own(counted: Statistics, used: Sequence[int]) -> Statistics:
    """Return what a sandbox itself has used, as in shim/usage.py: its cgroup was others' before."""
    user_us, system_us, peak_bytes, read_bytes, written_bytes, *rest = used
    times_us = {"usage_ns": user_us + system_us, "user_ns": user_us, "system_ns": system_us}
    cpu = {name: us * 1000 for name, us in times_us.items()}
    if rest:  # a shim of before an upgrade does not tell them
        cpu["periods"] = rest[0]
    now = {name: n for name, n in counted.memory.stat.items() if not _is_event(name)}
    transfers = {"read": read_bytes, "write": written_bytes}
    return counted._replace(
        cpu=counted.cpu._replace(per_cpu_ns=(), **cpu),
        memory=counted.memory._replace(peak_bytes=peak_bytes, stat=now),
        io_bytes=tuple(BlockStatistics(0, 0, name, value) for name, value in transfers.items()),
        io_operations=(),
    )


def _is_event(name: str) -> bool:
    """Whether memory.stat counts what has happened under *name*, and not what is there."""
    return name.removeprefix("total_").startswith(_EVENTS)


def _rows(lines: list[str], titles: list[str], pids: set[int]) -> Iterator[tuple[str, ...]]:
    """Give the lines of *pids*; the last column keeps its spaces."""
    column = titles.index("PID")
    for line in lines:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column].isdecimal() and int(fields[column]) in pids:
            yield tuple(fields)


async def _run_ps(arguments: list[str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "ps",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise OrlopError("the host has no ps program", hint="install procps") from None
    try:
        out, err = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise OrlopError("ps did not answer") from None
    if process.returncode:
        raise InvalidArgumentError(f"ps: {err.decode(errors='replace').strip()[:300]}")
    return out.decode(errors="replace")
