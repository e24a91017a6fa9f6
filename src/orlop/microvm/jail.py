"""The host's container around a virtual machine: what QEMU has of the host, as config.json.

    /usr /lib …          the host's programs, read only
    /code/orlop          this package, read only
    /machine/memory …    the template, the disks and the request, read only but for the writes
    /run                 in memory, for the supervisor's socket

The machine has a user of its own, no capabilities, and the devices that its accelerator needs.
"""

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from orlop.microvm.accelerator import KVM
from orlop.microvm.machine import Disks, Kind
from orlop.microvm.system import CODE, PACKAGES, interpreter
from orlop.model.mount import Mount
from orlop.model.oci import Capabilities, Config, Device, OCIMount, Resources
from orlop.model.oci import Process as OCIProcess

_PLACE = "/machine"
_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc/ld.so.cache")
_FIRST_USER = 1 << 30
_USERS = 1 << 28
#: What QEMU and the supervisor take beside the guest's memory.
OVERHEAD_BYTES = 96 << 20
_MOST_TASKS = 64
_SEALED = ("nosuid", "nodev")
_NETWORK = ["CAP_NET_ADMIN"]
_UNTIL_QEMU_RUNS: Capabilities = {
    "bounding": _NETWORK,
    "effective": _NETWORK,
    "permitted": _NETWORK,
    "inheritable": _NETWORK,
    "ambient": _NETWORK,
}
_SPEC = "1.2.1"

#: The jail's root: a folder in memory with places to mount on.
ROOT = Mount("tmpfs", "tmpfs", "/", ("mode=755", "size=64k"))


class Jailed(NamedTuple):
    """What a machine is given."""

    id: str  # the container's, 64 hexadecimal digits
    hostname: str
    kind: Kind
    template: str  # folder
    disks: Disks
    bundle: str  # folder of the jail's config.json, with `request` and `machine.json`


def user_of(container_id: str) -> int:
    """Return the host's user of the machine of the container with that id."""
    return _FIRST_USER + int(container_id[:12], 16) % _USERS


def description(jailed: Jailed) -> dict[str, object]:
    """Return what the supervisor reads, by the jail's own paths."""
    return {
        "kind": jailed.kind,
        "template": _PLACE,
        "disks": [path and f"{_PLACE}/{name}" for name, path in jailed.disks._asdict().items()],
        "hostname": jailed.hostname,
        "request": f"{_PLACE}/request",
    }


def config(jailed: Jailed, guest: Config) -> Config:
    """Return the jail's config.json; *guest* is that of the container in the machine."""
    process = guest.get("process", {})
    linux = guest.get("linux", {})
    first = command(user_of(jailed.id), "supervisor", f"{_PLACE}/machine.json")
    first["capabilities"] = _UNTIL_QEMU_RUNS
    first["terminal"] = process.get("terminal", False)
    if size := process.get("consoleSize"):
        first["consoleSize"] = size
    return {
        "ociVersion": _SPEC,
        "root": {"path": "rootfs", "readonly": True},
        "process": first,
        "mounts": [*_kernel(), *_programs(), *_files(jailed)],
        "linux": {
            "namespaces": [
                {"type": kind} for kind in ("mount", "network", "ipc", "pid", "uts", "cgroup")
            ],
            "cgroupsPath": linux.get("cgroupsPath", ""),
            "resources": _resources(jailed.kind, linux.get("resources", {})),
            "devices": list(_devices(jailed.kind)),
            "rootfsPropagation": "rprivate",
        },
    }


def command(user: int, program: str, argument: str) -> OCIProcess:
    """Return a process of the jail of *user* that runs `orlop.microvm.PROGRAM`."""
    code = (
        f"import sys; sys.path.append({CODE!r}); from orlop.microvm.{program} import main; main()"
    )
    return {
        "args": [interpreter(), "-I", "-S", "-B", "-c", code, argument],
        "env": ["PATH=/usr/bin:/bin"],
        "cwd": "/",
        "user": {"uid": user, "gid": user},
        "noNewPrivileges": True,
        "capabilities": {},
    }


def _kernel() -> Iterator[OCIMount]:
    yield _mount("/proc", "proc", *_SEALED, "noexec")
    yield _mount("/dev", "tmpfs", "nosuid", "noexec", "mode=755", "size=64k")
    yield _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666")
    yield _mount("/run", "tmpfs", *_SEALED, "noexec", "mode=1777", "size=64k")


def _programs() -> Iterator[OCIMount]:
    for name in _PROGRAMS:
        if os.path.exists(f"/{name}"):
            yield _bind(f"/{name}", f"/{name}")
    if not sys.base_prefix.startswith("/usr"):
        yield _bind(sys.base_prefix, sys.base_prefix)
    yield _bind(f"{PACKAGES}/orlop", f"{CODE}/orlop")


def _files(jailed: Jailed) -> Iterator[OCIMount]:
    for name in ("memory", "state"):
        yield _bind(f"{jailed.template}/{name}", f"{_PLACE}/{name}")
    for name in ("request", "machine.json"):
        yield _bind(f"{jailed.bundle}/{name}", f"{_PLACE}/{name}")
    for name, path in jailed.disks._asdict().items():
        if path:
            yield _bind(path, f"{_PLACE}/{name}", access="ro" if name == "image" else "rw")


def _resources(kind: Kind, guest: Resources) -> Resources:
    """Return the container's limits, with what the machine takes for itself; others do not fit."""
    result: Resources = {"devices": [{"allow": False, "access": "rwm"}]}
    for name in ("cpu", "blockIO", "network"):
        if name in guest:
            result[name] = guest[name]
    limit = (kind.memory_mib << 20) + OVERHEAD_BYTES
    result["memory"] = {"limit": limit}
    result["pids"] = {"limit": _MOST_TASKS}
    return result


def _devices(kind: Kind) -> Iterator[Device]:
    yield {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666}
    if kind.accelerator == KVM:
        status = os.stat("/dev/kvm")
        yield {
            "path": "/dev/kvm",
            "type": "c",
            "major": os.major(status.st_rdev),
            "minor": os.minor(status.st_rdev),
            "fileMode": 0o666,
        }


def _bind(source: str, target: str, *, access: str = "ro") -> OCIMount:
    options = ["rbind", "rprivate", *_SEALED, access]
    return {"destination": target, "type": "bind", "source": source, "options": options}


def _mount(target: str, kind: str, *options: str) -> OCIMount:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}
