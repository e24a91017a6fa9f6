"""From the options about limits to the API's "Resources", for run, create and update."""

from __future__ import annotations

from orlop.cli.container import mounts
from orlop.model.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from orlop.cli.container.flags import ContainerArguments

    class Changeable(Protocol):
        """The options of update, and of run and create among others."""

        memory: int | None
        memory_swap: int | None
        memory_reservation: int | None
        cpus: int | None
        cpu_shares: int | None
        cpu_period: int | None
        cpu_quota: int | None
        cpuset_cpus: str
        cpuset_mems: str
        pids_limit: int | None
        blkio_weight: int | None


_POLICIES = ("no", "always", "unless-stopped", "on-failure")


def limits(args: ContainerArguments) -> dict[str, Any]:
    """Return the limits that were asked for, and no others."""
    given = {
        **changeable(args),
        "MemorySwappiness": args.memory_swappiness,
        "OomKillDisable": args.oom_kill_disable or None,
        "CgroupParent": args.cgroup_parent or None,
        "Ulimits": [ulimit(value) for value in args.ulimit] or None,
        "Devices": [mounts.device(value) for value in args.device] or None,
        "DeviceCgroupRules": args.device_cgroup_rule or None,
        "BlkioWeightDevice": [_weight(value) for value in args.blkio_weight_device] or None,
    }
    throttles = {
        "BlkioDeviceReadBps": (args.device_read_bps, parse_size),
        "BlkioDeviceWriteBps": (args.device_write_bps, parse_size),
        "BlkioDeviceReadIOps": (args.device_read_iops, int),
        "BlkioDeviceWriteIOps": (args.device_write_iops, int),
    }
    for name, (rates, read) in throttles.items():
        if rates:
            given[name] = [_throttle(rate, read) for rate in rates]
    return {name: value for name, value in given.items() if value is not None}


def changeable(args: Changeable) -> dict[str, Any]:
    """Return those limits that a container can be given later, too; None for what was not said."""
    return {
        "Memory": args.memory,
        "MemorySwap": args.memory_swap,
        "MemoryReservation": args.memory_reservation,
        "NanoCpus": args.cpus,
        "CpuShares": args.cpu_shares,
        "CpuPeriod": args.cpu_period,
        "CpuQuota": args.cpu_quota,
        "CpusetCpus": args.cpuset_cpus or None,
        "CpusetMems": args.cpuset_mems or None,
        "PidsLimit": args.pids_limit,
        "BlkioWeight": args.blkio_weight,
    }


def ulimit(value: str) -> dict[str, Any]:
    """Return one --ulimit NAME=SOFT[:HARD]; -1 or unlimited for none."""
    name, equals, rest = value.partition("=")
    soft, colon, hard = rest.partition(":")
    figures = {"unlimited": "-1"}
    try:
        lower = int(figures.get(soft, soft))
        upper = int(figures.get(hard, hard)) if colon else lower
    except ValueError:
        equals = ""
    if not name or not equals:
        raise ValueError(f"invalid --ulimit {value!r}: expected NAME=SOFT[:HARD]")
    if upper != -1 and (lower > upper or lower == -1):
        raise ValueError(f"invalid --ulimit {value!r}: the soft limit is above the hard one")
    return {"Name": name, "Soft": lower, "Hard": upper}


def _split_device(value: str) -> tuple[str, str]:
    path, _, rest = value.rpartition(":")
    if not path.startswith("/dev/"):
        raise ValueError(f"invalid device limit {value!r}: expected /dev/…:LIMIT")
    return path, rest


def _weight(value: str) -> dict[str, Any]:
    path, rest = _split_device(value)
    if not rest.isdecimal():
        raise ValueError(f"invalid device weight {value!r}: expected /dev/…:WEIGHT")
    return {"Path": path, "Weight": int(rest)}


def _throttle(value: str, read: Any) -> dict[str, Any]:
    path, rest = _split_device(value)
    try:
        return {"Path": path, "Rate": read(rest)}
    except ValueError:
        raise ValueError(f"invalid device rate {value!r}: expected /dev/…:RATE") from None


def restart_policy(value: str) -> dict[str, Any]:
    """Return --restart no|always|unless-stopped|on-failure[:N] as the API has it."""
    name, colon, count = (value or "no").partition(":")
    if name not in _POLICIES or (colon and (name != "on-failure" or not count.isdecimal())):
        raise ValueError(
            f"invalid --restart {value!r}: expected no, always, unless-stopped or on-failure[:N]"
        )
    return {"Name": name, "MaximumRetryCount": int(count) if colon else 0}
