"""Convert config.json's resources to writes to v1 files. Pure.

config-linux.md, "Control groups"; Documentation/admin-guide/cgroup-v1/.
A memory limit of -1 means "no limit" in both; 0 means "not given".
"""

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.light import Iterator
from orlop.model.oci import CPU, BlockDevice, BlockIO, Memory, Network, Resources
from orlop.runtime.cgroups.devices import list_writes
from orlop.runtime.cgroups.interface import Write

_MOST_SWAPPINESS = 100


def files(resources: Resources) -> list[Write]:
    """Return the writes in the order in which they must be made.

    Raises:
        InvalidArgumentError: a value contradicts another.
        UnsupportedError: v1 does not support it.
    """
    writes = [*_cpuset(resources.get("cpu", {})), *_cpu(resources.get("cpu", {}))]
    writes += _memory(resources.get("memory", {}))
    writes += pids(resources)
    writes += _blkio(resources.get("blockIO", {}))
    writes += _hugetlb(resources)
    writes += _network(resources.get("network", {}))
    writes += rdma(resources)
    if resources.get("devices"):
        rules = list_writes(resources["devices"])
        writes += [Write("devices", file, value, "device rule") for file, value in rules]
    return writes


def _cpuset(cpu: CPU) -> Iterator[Write]:
    if cpus := cpu.get("cpus"):
        yield Write("cpuset", "cpuset.cpus", cpus, "cpu.cpus")
    if mems := cpu.get("mems"):
        yield Write("cpuset", "cpuset.mems", mems, "cpu.mems")


def _cpu(cpu: CPU) -> Iterator[Write]:
    """Idle cgroups have no shares: the kernel refuses them."""
    if (shares := cpu.get("shares")) and not cpu.get("idle"):
        yield Write("cpu", "cpu.shares", str(shares), "cpu.shares")
    if period := cpu.get("period"):
        yield Write("cpu", "cpu.cfs_period_us", str(period), "cpu.period")
    if quota := cpu.get("quota"):
        yield Write("cpu", "cpu.cfs_quota_us", str(quota), "cpu.quota")
    if "burst" in cpu:
        yield Write("cpu", "cpu.cfs_burst_us", str(cpu["burst"]), "cpu.burst")
    if "idle" in cpu:
        yield Write("cpu", "cpu.idle", str(cpu["idle"]), "cpu.idle")
    if period := cpu.get("realtimePeriod"):
        yield Write("cpu", "cpu.rt_period_us", str(period), "cpu.realtimePeriod")
    if runtime := cpu.get("realtimeRuntime"):
        yield Write("cpu", "cpu.rt_runtime_us", str(runtime), "cpu.realtimeRuntime")


def without_realtime(cpu: CPU) -> CPU:
    """Leave out the limits that v2 has no files for."""
    rest: CPU = {**cpu}
    rest.pop("realtimePeriod", None)
    rest.pop("realtimeRuntime", None)
    return rest


def _memory(memory: Memory) -> Iterator[Write]:
    """kernel and kernelTCP are left out: the kernel dropped those limits in 5.16."""
    limit, swap = memory.get("limit"), memory.get("swap")
    check_swap(memory)
    if limit == -1 and not swap:
        swap = -1  # otherwise memory could not rise above the old sum
    ceilings = [
        Write("memory", "memory.limit_in_bytes", str(limit), "memory.limit") if limit else None,
        swap_write("memory.memsw.limit_in_bytes", str(swap)) if swap else None,
    ]
    yield from (write for write in (reversed(ceilings) if limit == -1 else ceilings) if write)
    if reservation := memory.get("reservation"):
        yield Write("memory", "memory.soft_limit_in_bytes", str(reservation), "memory.reservation")
    if (swappiness := memory.get("swappiness")) is not None:
        if not 0 <= swappiness <= _MOST_SWAPPINESS:
            raise InvalidArgumentError(f"memory.swappiness {swappiness} is not 0 to 100")
        yield Write("memory", "memory.swappiness", str(swappiness), "memory.swappiness")
    if "disableOOMKiller" in memory:
        value = str(int(memory["disableOOMKiller"]))
        yield Write("memory", "memory.oom_control", value, "memory.disableOOMKiller")


def swap_write(file: str, value: str) -> Write:
    """Return the write of a swap limit: optional, because many kernels do not count swap.

    The memory limit works without it, and Docker ignores it then, too.
    """
    return Write("memory", file, value, "memory.swap", optional=True)


def check_swap(memory: Memory) -> None:
    """Raise InvalidArgumentError if *memory*'s swap (a sum) is less than its limit."""
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if swap > 0 and limit > 0 and swap < limit:
        raise InvalidArgumentError(
            f"memory.swap {swap} is less than memory.limit {limit}",
            hint="it is the ceiling of memory and swap together",
        )


def pids(resources: Resources) -> Iterator[Write]:
    """The same file in v1 and v2; a negative value means no limit, 0 the least possible."""
    limit = resources.get("pids", {}).get("limit")
    if limit is not None:
        yield Write("pids", "pids.max", "max" if limit < 0 else str(limit or 1), "pids.limit")


def _blkio(block: BlockIO) -> Iterator[Write]:
    if weight := block.get("weight"):
        yield _weight("weight", str(weight), "blockIO.weight")
    for device in block.get("weightDevice", []):
        if "weight" in device:
            value = f"{number(device)} {device['weight']}"
            yield _weight("weight_device", value, "blockIO.weightDevice")
    throttles = {
        "read_bps": ("throttleReadBpsDevice", block.get("throttleReadBpsDevice")),
        "write_bps": ("throttleWriteBpsDevice", block.get("throttleWriteBpsDevice")),
        "read_iops": ("throttleReadIOPSDevice", block.get("throttleReadIOPSDevice")),
        "write_iops": ("throttleWriteIOPSDevice", block.get("throttleWriteIOPSDevice")),
    }
    for name, (field, devices) in throttles.items():
        for device in devices or []:
            value = f"{number(device)} {device.get('rate', 0)}"
            yield Write("blkio", f"blkio.throttle.{name}_device", value, f"blockIO.{field}")


def _weight(name: str, value: str, field: str) -> Write:
    """CFQ left the kernel in 5.0; BFQ has its name in the names of its files."""
    instead = Write("blkio", f"blkio.bfq.{name}", value, field)
    return Write("blkio", f"blkio.{name}", value, field, instead)


def number(device: BlockDevice) -> str:
    """Spell a block device as in the kernel's files."""
    return f"{device.get('major', 0)}:{device.get('minor', 0)}"


def _hugetlb(resources: Resources) -> Iterator[Write]:
    for page in resources.get("hugepageLimits", []):
        size, limit = page["pageSize"], str(page["limit"])
        reserved = plain(f"hugetlb.{size}.rsvd.limit_in_bytes")
        yield Write("hugetlb", reserved, limit, "hugepageLimits", optional=True)
        yield Write("hugetlb", plain(f"hugetlb.{size}.limit_in_bytes"), limit, "hugepageLimits")


def _network(network: Network) -> Iterator[Write]:
    if class_id := network.get("classID"):
        yield Write("net_cls", "net_cls.classid", str(class_id), "network.classID")
    for item in network.get("priorities", []):
        value = f"{item['name']} {item['priority']}"
        yield Write("net_prio", "net_prio.ifpriomap", value, "network.priorities")


def rdma(resources: Resources) -> Iterator[Write]:
    """The same file in v1 and v2."""
    names = {"hcaHandles": "hca_handle", "hcaObjects": "hca_object"}
    for device, limits in resources.get("rdma", {}).items():
        words = [f"{names[key]}={value}" for key, value in limits.items() if key in names]
        yield Write("rdma", "rdma.max", " ".join([device, *words]), "rdma")


def plain(file: str) -> str:
    """Return *file*, a name made from input; InvalidArgumentError if it is a path."""
    if "/" in file or "\0" in file or file in ("", ".", ".."):
        raise InvalidArgumentError(f"{file!r} is no name of a cgroup file")
    return file


def refuse_unified(resources: Resources) -> None:
    """Raise UnsupportedError for limits that only v2 files can express."""
    if names := ", ".join(resources.get("unified", {})):
        raise UnsupportedError(f"this host has no cgroup v2 controller for {names}")
