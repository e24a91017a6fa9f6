"""Limits: from Docker's terms to config.json's."""

import os
import stat
from collections.abc import Iterable

from orlop.errors import InvalidArgumentError
from orlop.model import oci
from orlop.model.container import Resources, ThrottleDevice, WeightDevice
from orlop.runtime.cgroups.layout import detect

DEFAULT_PIDS = 4096  # a fork bomb stays in its container; -1 or 0 lifts it
_PERIOD_US = 100_000
_LEAST_MEMORY_BYTES = 6 << 20  # Docker's: less does not hold an init
_MOST = (1 << 63) - 1  # as Docker's int64
#: By their names in Docker's API, with the least that each may be.
_LIMITS = (
    ("memory_bytes", "Memory", 0),
    ("memory_swap_bytes", "MemorySwap", -1),
    ("memory_reservation_bytes", "MemoryReservation", 0),
    ("nano_cpus", "NanoCpus", 0),
    ("cpu_shares", "CpuShares", 0),
    ("cpu_quota_us", "CpuQuota", -1),
    ("cpu_period_us", "CpuPeriod", 0),
    ("pids_limit", "PidsLimit", -1),
    ("blkio_weight", "BlkioWeight", 0),
)


def resources(limits: Resources) -> oci.Resources:
    """Return the `resources` of a new container, without device rules."""
    result = update(limits)
    if limits.pids_limit is None:
        result["pids"] = {"limit": DEFAULT_PIDS}
    if limits.memory_bytes and not limits.memory_swap_bytes:
        result.setdefault("memory", {})["swap"] = limits.memory_bytes * 2
    return result


def update(limits: Resources) -> oci.Resources:
    """Return only what *limits* name, for a container that has others already.

    Raises InvalidArgumentError for a limit that cannot be. Limits are checked here alone.
    """
    for field, name, least in _LIMITS:
        value = getattr(limits, field)
        if value is not None and not least <= value <= _MOST:
            raise InvalidArgumentError(f"{name} cannot be {value}")
    result: oci.Resources = {}
    if memory := _memory(limits):
        result["memory"] = memory
    if cpu := _cpu(limits):
        result["cpu"] = cpu
    if limits.pids_limit is not None:
        result["pids"] = {"limit": limits.pids_limit if limits.pids_limit > 0 else -1}
    if block := _block(limits):
        result["blockIO"] = block
    if pages := _hugepages(limits):
        result["hugepageLimits"] = pages
    if limits.unified:
        result["unified"] = dict(limits.unified)
    return result


def _hugepages(limits: Resources) -> list[oci.HugepageLimit]:
    """Return the limits; none of 0 where the kernel cannot keep it."""
    for size, value in limits.hugepage_bytes.items():
        if not 0 <= value <= _MOST:
            raise InvalidArgumentError(f"the limit of pages of {size[:20]} cannot be {value}")
    is_kept = "hugetlb" in detect().controllers
    return [
        {"pageSize": size, "limit": value}
        for size, value in limits.hugepage_bytes.items()
        if value or is_kept
    ]


def _memory(limits: Resources) -> oci.Memory:
    _check_memory(limits)
    memory: oci.Memory = {}
    if limits.memory_bytes:
        memory["limit"] = limits.memory_bytes
    if limits.memory_swap_bytes:
        memory["swap"] = limits.memory_swap_bytes
    if limits.memory_reservation_bytes:
        memory["reservation"] = limits.memory_reservation_bytes
    if limits.memory_swappiness is not None:
        memory["swappiness"] = limits.memory_swappiness
    if limits.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _check_memory(limits: Resources) -> None:
    memory, swap = limits.memory_bytes or 0, limits.memory_swap_bytes or 0
    reservation = limits.memory_reservation_bytes or 0
    if 0 < memory < _LEAST_MEMORY_BYTES:
        raise InvalidArgumentError(f"memory limit {memory} is too small", hint="at least 6m")
    if swap > 0 and memory == 0:
        raise InvalidArgumentError(
            "memory-swap needs a memory limit too", hint="it is the sum of memory and swap"
        )
    if 0 < swap < memory:
        raise InvalidArgumentError(f"memory-swap {swap} is less than the memory limit {memory}")
    if 0 < memory < reservation:
        raise InvalidArgumentError(
            f"memory reservation {reservation} is more than the memory limit {memory}"
        )
    swappiness = limits.memory_swappiness
    if swappiness is not None and not 0 <= swappiness <= 100:
        raise InvalidArgumentError(f"memory swappiness {swappiness} is not 0 to 100")


def _cpu(limits: Resources) -> oci.CPU:
    cpu: oci.CPU = {}
    if limits.nano_cpus:
        cpu |= _cpus(limits)
    if limits.cpu_shares:
        cpu["shares"] = limits.cpu_shares
    if limits.cpu_period_us:
        cpu["period"] = limits.cpu_period_us
    if limits.cpu_quota_us:
        cpu["quota"] = limits.cpu_quota_us
    if limits.cpu_realtime_period_us:
        cpu["realtimePeriod"] = limits.cpu_realtime_period_us
    if limits.cpu_realtime_runtime_us:
        cpu["realtimeRuntime"] = limits.cpu_realtime_runtime_us
    if limits.cpuset_cpus:
        cpu["cpus"] = limits.cpuset_cpus
    if limits.cpuset_mems:
        cpu["mems"] = limits.cpuset_mems
    return cpu


def _cpus(limits: Resources) -> oci.CPU:
    """Turn --cpus into a quota; as Docker does, not more than the host has."""
    count = os.cpu_count() or 1
    nano = limits.nano_cpus or 0
    if limits.cpu_quota_us or limits.cpu_period_us:
        raise InvalidArgumentError("--cpus goes with neither --cpu-quota nor --cpu-period")
    if not 10_000_000 <= nano <= count * 1_000_000_000:
        raise InvalidArgumentError(
            f"{nano / 1e9:g} cpus cannot be had here", hint=f"0.01 to {count}.00"
        )
    return {"period": _PERIOD_US, "quota": nano * _PERIOD_US // 1_000_000_000}


def _block(limits: Resources) -> oci.BlockIO:
    block: oci.BlockIO = {}
    if limits.blkio_weight:
        block["weight"] = limits.blkio_weight
    if limits.blkio_weight_device:
        block["weightDevice"] = [_weight(device) for device in limits.blkio_weight_device]
    if limits.read_bps:
        block["throttleReadBpsDevice"] = _throttles(limits.read_bps)
    if limits.write_bps:
        block["throttleWriteBpsDevice"] = _throttles(limits.write_bps)
    if limits.read_iops:
        block["throttleReadIOPSDevice"] = _throttles(limits.read_iops)
    if limits.write_iops:
        block["throttleWriteIOPSDevice"] = _throttles(limits.write_iops)
    return block


def _throttles(devices: Iterable[ThrottleDevice]) -> list[oci.BlockDevice]:
    return [{**_block_device(device.path), "rate": device.rate} for device in devices]


def _weight(device: WeightDevice) -> oci.BlockDevice:
    return {**_block_device(device.path), "weight": device.weight}


def _block_device(path: str) -> oci.BlockDevice:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidArgumentError(f"no block device {path!r}: {error.strerror}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidArgumentError(f"{path!r} is no block device")
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
