"""The Config, HostConfig and Mounts parts of a container, as Docker shows them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from orlop.api.docker.parse_container import RUNTIMES
from orlop.engine.spec.security import closed_paths
from orlop.model.container import Container, ContainerOptions, Health, MountPoint, Resources
from orlop.model.network import Bandwidth

Shape = dict[str, Any]
_OF_WINDOWS = ("CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth")


def render_config(container: Container) -> Shape:
    """Return Config: the process and its description."""
    options = container.options
    shape: Shape = {
        "Hostname": options.hostname or container.id[:12],
        "Domainname": options.domainname,
        "User": options.user,
        "AttachStdin": options.attach_stdin,
        "AttachStdout": options.attach_stdout,
        "AttachStderr": options.attach_stderr,
        "Tty": options.terminal,
        "OpenStdin": options.open_stdin,
        "StdinOnce": options.stdin_once,
        "Env": options.environment,
        "Cmd": options.command,
        "Image": container.image_name,
        "Volumes": {target: {} for target in options.volumes} or None,
        "WorkingDir": options.working_dir,
        "Entrypoint": options.entrypoint or None,
        "OnBuild": None,
        "Labels": options.labels,
    }
    if options.exposed_ports:
        shape["ExposedPorts"] = {port: {} for port in options.exposed_ports}
    if options.mac_address:
        shape["MacAddress"] = options.mac_address
    if options.stop_signal:
        shape["StopSignal"] = options.stop_signal
    if options.stop_timeout_s is not None:
        shape["StopTimeout"] = options.stop_timeout_s
    if options.health is not None:
        shape["Healthcheck"] = _health(options.health)
    return shape


def _health(health: Health) -> Shape:
    shape = {
        "Test": health.test,
        "Interval": health.interval_ns,
        "Timeout": health.timeout_ns,
        "StartPeriod": health.start_period_ns,
        "StartInterval": health.start_interval_ns,
        "Retries": health.retries,
    }
    return {name: value for name, value in shape.items() if value}


def render_host_config(container: Container, links: Sequence[tuple[str, str]] = ()) -> Shape:
    """Return HostConfig; *links* are other containers' names and aliases."""
    options = container.options
    shape = {
        **_held(options),
        **_isolation(options),
        **render_resources(options.resources),
        "CgroupParent": options.cgroup_parent,
        "Links": [f"/{other}:/{container.name}/{alias}" for other, alias in links] or None,
    }
    return shape | ({"Bandwidth": rates} if (rates := _bandwidth(options.bandwidth)) else {})


def _bandwidth(limits: Bandwidth) -> Shape:
    shape = {
        "IngressRate": limits.ingress_bps,
        "IngressBurst": limits.ingress_burst_bits,
        "EgressRate": limits.egress_bps,
        "EgressBurst": limits.egress_burst_bits,
    }
    return {name: value for name, value in shape.items() if value}


def _held(options: ContainerOptions) -> Shape:
    return {
        "Binds": [_bind(point) for point in options.mounts if _was_bind(point)] or None,
        "ContainerIDFile": "",
        "LogConfig": _log(options),
        "NetworkMode": options.network,
        "PortBindings": {
            port: [{"HostIp": ip, "HostPort": host_port} for ip, host_port in bindings]
            for port, bindings in options.port_bindings.items()
        },
        "RestartPolicy": {
            "Name": options.restart.name,
            "MaximumRetryCount": options.restart.maximum_retry_count,
        },
        "AutoRemove": options.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": options.volumes_from or None,
        "ConsoleSize": options.console_size or (0, 0),
        "Mounts": [_mount(point) for point in options.mounts if _was_mount(point)],
        "Tmpfs": {p.target: p.tmpfs_options for p in options.mounts if _was_tmpfs(p)},
        **({"StorageOpt": {"size": str(options.disk_bytes)}} if options.disk_bytes else {}),
        **({"Annotations": options.annotations} if options.annotations else {}),
        **({"Init": True} if options.init else {}),
    }


def _isolation(options: ContainerOptions) -> Shape:
    masked, readonly = closed_paths(options)
    return {
        "CapAdd": options.cap_add or None,
        "CapDrop": options.cap_drop or None,
        "CgroupnsMode": options.cgroupns or "private",
        "Dns": options.dns,
        "DnsOptions": options.dns_options,
        "DnsSearch": options.dns_search,
        "Egress": options.egress,
        "ExtraHosts": options.extra_hosts or None,
        "GroupAdd": options.group_add or None,
        "IpcMode": options.ipc or "private",
        "Cgroup": "",
        "OomScoreAdj": options.oom_score_adj,
        "PidMode": options.pid,
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": options.security_opt or None,
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "ShmSize": options.shm_size_bytes,
        **({"Sysctls": options.sysctls} if options.sysctls else {}),
        "Runtime": options.runtime or RUNTIMES[0],
        "Isolation": "",
        "MaskedPaths": None if options.privileged else masked,
        "ReadonlyPaths": None if options.privileged else readonly,
    }


def render_resources(resources: Resources) -> Shape:
    """Return the fields that HostConfig and update share; 0 if not given."""
    return {
        "Memory": resources.memory_bytes or 0,
        "MemorySwap": resources.memory_swap_bytes or 0,
        "MemoryReservation": resources.memory_reservation_bytes or 0,
        "MemorySwappiness": resources.memory_swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "NanoCpus": resources.nano_cpus or 0,
        "CpuShares": resources.cpu_shares or 0,
        "CpuQuota": resources.cpu_quota_us or 0,
        "CpuPeriod": resources.cpu_period_us or 0,
        "CpuRealtimePeriod": resources.cpu_realtime_period_us or 0,
        "CpuRealtimeRuntime": resources.cpu_realtime_runtime_us or 0,
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
        "PidsLimit": resources.pids_limit,
        "BlkioWeight": resources.blkio_weight or 0,
        "BlkioWeightDevice": [
            {"Path": d.path, "Weight": d.weight} for d in resources.blkio_weight_device
        ],
        "BlkioDeviceReadBps": [{"Path": d.path, "Rate": d.rate} for d in resources.read_bps],
        "BlkioDeviceWriteBps": [{"Path": d.path, "Rate": d.rate} for d in resources.write_bps],
        "BlkioDeviceReadIOps": [{"Path": d.path, "Rate": d.rate} for d in resources.read_iops],
        "BlkioDeviceWriteIOps": [{"Path": d.path, "Rate": d.rate} for d in resources.write_iops],
        "Devices": [
            {
                "PathOnHost": d.host_path,
                "PathInContainer": d.container_path,
                "CgroupPermissions": d.access,
            }
            for d in resources.devices
        ],
        "DeviceCgroupRules": resources.device_cgroup_rules or None,
        "DeviceRequests": None,
        **dict.fromkeys(_OF_WINDOWS, 0),
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in resources.ulimits],
    }


def _log(options: ContainerOptions) -> Shape:
    return {"Type": options.log.driver, "Config": options.log.given}


def _was_tmpfs(point: MountPoint) -> bool:
    as_mount = (point.from_mounts, point.tmpfs_size_bytes, point.tmpfs_mode)
    return point.type == "tmpfs" and not any(as_mount)


def _was_bind(point: MountPoint) -> bool:
    """Whether -v can express all of it; then it is shown so, however it was requested."""
    if point.type == "volume" and not point.mode:
        more = (point.labels, point.driver_options, point.subpath, point.no_copy, point.read_only)
        return bool(point.source) and not any(more)
    return point.create_host_path or bool(point.mode)


def _was_mount(point: MountPoint) -> bool:
    return not _was_tmpfs(point) and not _was_bind(point)


def _bind(point: MountPoint) -> str:
    text = f"{point.source}:{point.target}" if point.source else point.target
    return f"{text}:{point.mode}" if point.mode else text


def _mount(point: MountPoint) -> Shape:
    shape: Shape = {"Type": point.type, "Target": point.target}
    if point.source:
        shape["Source"] = point.source
    if point.read_only:
        shape["ReadOnly"] = True
    if point.type == "bind" and point.propagation:
        shape["BindOptions"] = {"Propagation": point.propagation}
    if point.type == "volume":
        shape["VolumeOptions"] = {"NoCopy": point.no_copy, "Labels": point.labels}
    if point.type == "tmpfs":
        given = {"SizeBytes": point.tmpfs_size_bytes, "Mode": point.tmpfs_mode}
        options = {name: value for name, value in given.items() if value}
        shape |= {"TmpfsOptions": options} if options else {}
    return shape


def render_mounts(points: Iterable[MountPoint], *, volumes: Path) -> list[Shape]:
    """Return Mounts, with their sources resolved. --tmpfs is shown in HostConfig only."""
    return [_mounted(point, volumes) for point in points if not _was_tmpfs(point)]


def _mounted(point: MountPoint, volumes: Path) -> Shape:
    shape: Shape = {
        "Type": point.type,
        "Source": point.source,
        "Destination": point.target,
        "Mode": point.mode,
        "RW": not point.read_only,
        "Propagation": point.propagation or ("rprivate" if point.type == "bind" else ""),
    }
    if point.type == "volume":
        shape |= {
            "Name": point.source,
            "Source": str(volumes / point.source / "_data"),
            "Driver": point.driver or "local",
        }
    return shape
