"""Convert config.json's resources to writes to v2 files. Pure.

config-linux.md, "Control groups"; cgroup-v2.rst, "Controllers". OCI uses v1's terms:
shares become weights, and swap, which OCI counts with memory, is swap alone here.
"""

import math

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.light import Iterator
from orlop.model.oci import CPU, BlockIO, Memory, Resources
from orlop.runtime.cgroups.interface import Write
from orlop.runtime.cgroups.v1_limits import (
    check_swap,
    number,
    pids,
    plain,
    rdma,
    swap_write,
)

_DEFAULT_PERIOD_US = 100_000


def files(resources: Resources) -> list[Write]:
    """Return the writes in order; device rules are a program, not a file.

    Raises:
        InvalidArgumentError: a value is out of range or contradicts another.
        UnsupportedError: v2 does not support it.
    """
    if resources.get("network"):
        raise UnsupportedError("network.classID and network.priorities need cgroup v1")
    return [
        *_cpu(resources.get("cpu", {})),
        *_memory(resources.get("memory", {})),
        *pids(resources),
        *_io(resources.get("blockIO", {})),
        *_hugetlb(resources),
        *rdma(resources),
        *_unified(resources),
    ]


def weight_of_shares(shares: int) -> int:
    """Convert cpu.shares (2–262144, default 1024) to cpu.weight (1–10000, default 100).

    A parabola in the logarithm through those three points: the rule that runc and crun
    agreed on in 2025, replacing a line that made the default 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _cpu(cpu: CPU) -> Iterator[Write]:
    if cpu.get("realtimeRuntime") or cpu.get("realtimePeriod"):
        raise UnsupportedError("cpu.realtimeRuntime and cpu.realtimePeriod need cgroup v1")
    if (shares := cpu.get("shares")) and not cpu.get("idle"):
        yield Write("cpu", "cpu.weight", str(weight_of_shares(shares)), "cpu.shares")
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    if quota or period:
        value = f"{quota if quota > 0 else 'max'} {period or _DEFAULT_PERIOD_US}"
        yield Write("cpu", "cpu.max", value, "cpu.quota")
    if "burst" in cpu:
        yield Write("cpu", "cpu.max.burst", str(cpu["burst"]), "cpu.burst")
    if "idle" in cpu:
        yield Write("cpu", "cpu.idle", str(cpu["idle"]), "cpu.idle")
    if cpus := cpu.get("cpus"):
        yield Write("cpuset", "cpuset.cpus", cpus, "cpu.cpus")
    if mems := cpu.get("mems"):
        yield Write("cpuset", "cpuset.mems", mems, "cpu.mems")


def _memory(memory: Memory) -> Iterator[Write]:
    """swappiness and disableOOMKiller have no counterpart; the specification drops them."""
    check_swap(memory)
    limit = memory.get("limit") or 0
    swap = _swap(limit, memory.get("swap") or 0)
    if swap is not None:
        yield swap_write("memory.swap.max", swap)
    if limit:
        yield Write("memory", "memory.max", _ceiling(limit), "memory.limit")
    if reservation := memory.get("reservation"):
        yield Write("memory", "memory.low", _ceiling(reservation), "memory.reservation")


def _swap(limit: int, both: int) -> str | None:
    """Return the value of memory.swap.max, or None to leave it."""
    if both < 0 or (limit < 0 and not both):
        return "max"
    if not both:
        return None
    if limit <= 0:
        raise InvalidArgumentError(
            f"memory.swap {both} needs a memory.limit",
            hint="cgroup v2 limits swap alone: the difference of the two",
        )
    return str(both - limit)


def _ceiling(value: int) -> str:
    return "max" if value < 0 else str(value)


def _io(block: BlockIO) -> Iterator[Write]:
    if weight := block.get("weight"):
        yield _weight("", weight, "blockIO.weight")
    for device in block.get("weightDevice", []):
        if "weight" in device:
            yield _weight(f"{number(device)} ", device["weight"], "blockIO.weightDevice")
    throttles = {
        "rbps": ("throttleReadBpsDevice", block.get("throttleReadBpsDevice")),
        "wbps": ("throttleWriteBpsDevice", block.get("throttleWriteBpsDevice")),
        "riops": ("throttleReadIOPSDevice", block.get("throttleReadIOPSDevice")),
        "wiops": ("throttleWriteIOPSDevice", block.get("throttleWriteIOPSDevice")),
    }
    for key, (field, devices) in throttles.items():
        for device in devices or []:
            rate = device.get("rate") or "max"
            yield Write("io", "io.max", f"{number(device)} {key}={rate}", f"blockIO.{field}")


def _weight(device: str, weight: int, field: str) -> Write:
    """BFQ's own file takes OCI's range, 10–1000; io.weight takes 1–10000."""
    if not 10 <= weight <= 1000:
        raise InvalidArgumentError(f"{field} {weight} is out of range", hint="10 to 1000")
    stretched = 1 + (weight - 10) * 9999 // 990
    instead = Write("io", "io.weight", f"{device or 'default '}{stretched}", field)
    return Write("io", "io.bfq.weight", f"{device}{weight}", field, instead)


def _hugetlb(resources: Resources) -> Iterator[Write]:
    for page in resources.get("hugepageLimits", []):
        size, limit = page["pageSize"], str(page["limit"])
        reserved = plain(f"hugetlb.{size}.rsvd.max")
        yield Write("hugetlb", reserved, limit, "hugepageLimits", optional=True)
        yield Write("hugetlb", plain(f"hugetlb.{size}.max"), limit, "hugepageLimits")


def _unified(resources: Resources) -> Iterator[Write]:
    """Files named by the user: only files of controllers, so none of "cgroup.*"."""
    for file, value in resources.get("unified", {}).items():
        controller, dot, _ = plain(file).partition(".")
        if not dot or controller == "cgroup":
            raise InvalidArgumentError(f"unified: {file!r} is no controller's file")
        for line in value.splitlines():
            yield Write(controller, file, line, f"unified {file}")
