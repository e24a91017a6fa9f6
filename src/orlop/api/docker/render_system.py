"""Render version, info and disk usage in the format of Docker's API."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orlop import __version__
from orlop.api.docker.parse_container import RUNTIMES
from orlop.api.docker.parse_log import DRIVERS
from orlop.api.docker.render_container import render_summary as render_container_summary
from orlop.api.docker.render_image import render_summary as render_image_summary
from orlop.api.docker.render_image import render_volume
from orlop.api.docker.render_network import Networks
from orlop.api.docker.routing import MAX_VERSION, MIN_VERSION, version_text
from orlop.api.docker.times import rfc3339
from orlop.engine.answers import CacheItem, DiskUsage, Info, VolumeAnswer

Shape = dict[str, Any]
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}

_CAN = (
    "MemoryLimit",
    "SwapLimit",
    "CpuCfsPeriod",
    "CpuCfsQuota",
    "CPUShares",
    "CPUSet",
    "PidsLimit",
    "OomKillDisable",
    "IPv4Forwarding",
)
_CANNOT = ("BridgeNfIptables", "BridgeNfIp6tables", "ExperimentalBuild")
_NO_COMMITS: Shape = {
    name: {"ID": "", "Expected": ""} for name in ("ContainerdCommit", "RuncCommit", "InitCommit")
}
_NO_SWARM: Shape = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}


def render_version() -> Shape:
    """Return GET /version."""
    kernel = os.uname()
    architecture = _ARCHITECTURES.get(kernel.machine, kernel.machine)
    details = {
        "ApiVersion": version_text(MAX_VERSION),
        "Arch": architecture,
        "KernelVersion": kernel.release,
        "MinAPIVersion": version_text(MIN_VERSION),
        "Os": "linux",
        "PythonVersion": platform.python_version(),
    }
    return {
        "Platform": {"Name": "Orlop"},
        "Components": [{"Name": "Engine", "Version": __version__, "Details": details}],
        "Version": __version__,
        "ApiVersion": version_text(MAX_VERSION),
        "MinAPIVersion": version_text(MIN_VERSION),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": kernel.release,
        "BuildTime": "",
    }


def render_info(info: Info) -> Shape:
    """Return GET /info."""
    return {**_counts(info), **_host(info), **_abilities()}


def _counts(info: Info) -> Shape:
    return {
        "ID": info.id,
        "Name": info.name,
        "Containers": info.containers,
        "ContainersRunning": info.running,
        "ContainersPaused": info.paused,
        "ContainersStopped": info.stopped,
        "Images": info.images,
        "NEventsListener": info.subscribers,
        "NFd": -1,
        "NGoroutines": -1,
        "SystemTime": rfc3339(info.time_ns),
    }


def _host(info: Info) -> Shape:
    return {
        "OperatingSystem": info.operating_system,
        "OSType": "linux",
        "OSVersion": "",
        "Architecture": info.architecture,
        "KernelVersion": info.kernel,
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "DockerRootDir": info.root,
        "Driver": info.driver,
        "DriverStatus": [],
        "CgroupDriver": info.cgroup_driver,
        "CgroupVersion": info.cgroup_version,
        "SecurityOptions": info.security,
        "Protections": [
            {"Name": one.name, "State": one.state, "Detail": one.detail} for one in info.protections
        ],
        "Labels": info.labels,
        "ServerVersion": __version__,
        "Warnings": info.warnings or None,
        "Debug": False,
        "HttpProxy": os.environ.get("HTTP_PROXY", ""),
        "HttpsProxy": os.environ.get("HTTPS_PROXY", ""),
        "NoProxy": os.environ.get("NO_PROXY", ""),
    }


def _abilities() -> Shape:
    return {
        **dict.fromkeys(_CAN, True),
        **dict.fromkeys(_CANNOT, False),
        **_NO_COMMITS,
        "LoggingDriver": "json-file",
        "Plugins": {
            "Volume": ["local"],
            "Network": sorted(("host", "null", *_network_drivers())),
            "Authorization": None,
            "Log": sorted(DRIVERS),
        },
        "Runtimes": {name: {"path": "orlop-runtime"} for name in RUNTIMES},
        "DefaultRuntime": RUNTIMES[0],
        "InitBinary": "docker-init",
        "LiveRestoreEnabled": True,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "IndexConfigs": {},
            "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "Mirrors": [],
        },
        "Swarm": _NO_SWARM,
        "Isolation": "",
    }


def _network_drivers() -> Iterable[str]:
    from orlop.network.choose import DRIVERS  # loaded only when asked for

    return DRIVERS


def render_disk_usage(usage: DiskUsage, *, volumes: Path, networks: Networks) -> Shape:
    """Return GET /system/df. *volumes* is the folder of volumes.

    ImageUsage is from API 1.52: with the figures of older versions clients compute a
    reclaimable size that counts shared layers twice.
    """
    return {
        "LayersSize": usage.layers,
        "ImageUsage": {
            "ActiveCount": sum(image.containers > 0 for image in usage.images),
            "TotalCount": len(usage.images),
            "TotalSize": usage.layers,
            "Reclaimable": usage.unused_layers,
        },
        "Images": [render_image_summary(image) for image in usage.images],
        "Containers": [
            render_container_summary(container, volumes=volumes, networks=networks, size=size)
            for container, size in usage.containers
        ],
        "Volumes": [
            render_volume(
                VolumeAnswer(
                    volume=volume,
                    mountpoint=str(volumes / volume.name / "_data"),
                    size=size,
                    users=users,
                )
            )
            for volume, size, users in usage.volumes
        ],
        "BuildCache": [_cache_item(item) for item in usage.cache],
    }


def _cache_item(item: CacheItem) -> Shape:
    return {
        "ID": item.key,
        "Type": "exec.cachemount" if item.is_mount else "regular",
        "Description": item.what,
        "InUse": False,
        "Shared": item.shared,
        "Size": item.size,
        "CreatedAt": rfc3339(item.created_ns),
        "LastUsedAt": rfc3339(item.used_ns),
        "LastUsedNs": item.used_ns,
        "UsageCount": item.uses,
    }
