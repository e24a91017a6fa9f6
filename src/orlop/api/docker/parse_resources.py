"""From Docker's resource fields, where zero means "not given", to Resources."""

from msgspec.structs import replace

from orlop.api.docker import wire
from orlop.errors import InvalidArgumentError
from orlop.model.container import (
    DeviceMapping,
    Resources,
    ThrottleDevice,
    Ulimit,
    WeightDevice,
)


def parse_resources(body: wire.Resources) -> Resources:
    """Return the limits that *body* asks for. The engine checks them (engine/spec/resources.py)."""
    resources = Resources(
        memory_bytes=body.memory or None,
        memory_swap_bytes=body.memory_swap or None,
        memory_reservation_bytes=body.memory_reservation or None,
        memory_swappiness=None if body.memory_swappiness == -1 else body.memory_swappiness,
        oom_kill_disable=body.oom_kill_disable or None,
        nano_cpus=body.nano_cpus or None,
        cpu_shares=body.cpu_shares or None,
        cpu_quota_us=body.cpu_quota or None,
        cpu_period_us=body.cpu_period or None,
        cpu_realtime_period_us=body.cpu_realtime_period or None,
        cpu_realtime_runtime_us=body.cpu_realtime_runtime or None,
        cpuset_cpus=body.cpuset_cpus or "",
        cpuset_mems=body.cpuset_mems or "",
        pids_limit=body.pids_limit or None,
        blkio_weight=body.blkio_weight or None,
    )
    return replace(
        resources,
        blkio_weight_device=tuple(
            WeightDevice(path=d.path, weight=d.weight) for d in body.blkio_weight_device or ()
        ),
        read_bps=_throttles(body.blkio_device_read_bps),
        write_bps=_throttles(body.blkio_device_write_bps),
        read_iops=_throttles(body.blkio_device_read_iops),
        write_iops=_throttles(body.blkio_device_write_iops),
        devices=tuple(_device(d) for d in body.devices or ()),
        device_cgroup_rules=tuple(body.device_cgroup_rules or ()),
        ulimits=tuple(_ulimit(u) for u in body.ulimits or ()),
    )


def _throttles(devices: list[wire.ThrottleDevice] | None) -> tuple[ThrottleDevice, ...]:
    return tuple(ThrottleDevice(path=d.path, rate=d.rate) for d in devices or ())


def _device(device: wire.DeviceMapping) -> DeviceMapping:
    access = device.cgroup_permissions or "rwm"
    if not set(access) <= set("rwm"):
        raise InvalidArgumentError(
            f"invalid access {access!r} to device {device.path_on_host}", hint="letters of rwm"
        )
    return DeviceMapping(
        host_path=device.path_on_host,
        container_path=device.path_in_container or device.path_on_host,
        access=access,
    )


def _ulimit(limit: wire.Ulimit) -> Ulimit:
    hard = limit.hard or 0
    soft = limit.soft or 0
    if 0 <= hard < soft:
        raise InvalidArgumentError(f"ulimit {limit.name}: soft limit {soft} is above hard {hard}")
    return Ulimit(name=limit.name, soft=soft, hard=hard)
