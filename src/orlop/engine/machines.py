"""Containers in virtual machines: what a start needs beside that of other containers.

A machine is a container of the host, the jail, whose process stands for the one in the guest
(microvm/supervisor.py). So the shim starts, signals and adopts it as any other.

    containers/ID/config.json          the container in the guest, as everything else reads it
    containers/ID/machine/config.json  the jail, which the shim starts
                         /request      what the agent in the guest gets
                         /machine.json what the supervisor gets
"""

import os
import stat
from binascii import b2a_base64
from pathlib import Path
from typing import Any

import msgspec

from orlop.engine.containers.kind import VM
from orlop.engine.containers.written import WRITES
from orlop.engine.context import Context
from orlop.engine.images.host import HOST
from orlop.engine.threads import in_thread
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.layers import transfer
from orlop.microvm import accelerator, jail, setup
from orlop.microvm.disk import DEFAULT_BYTES, image_disk, make_writes
from orlop.microvm.machine import Disks, Kind
from orlop.microvm.template import Template, template
from orlop.model.container import Container, ContainerOptions
from orlop.model.guestwire import FILES
from orlop.model.oci import Config, OCIMount
from orlop.model.oci import Process as OCIProcess
from orlop.runtime import seccomp
from orlop.snapshots.interface import LayerKey
from orlop.snapshots.view import open_root

_LEAST_MIB = 256
_GUEST_MIB = 96  # for the guest's kernel and agent
_MOST_FILE = 2 << 20
_OTHERS = ("host", "container:", "ns:", "pod:")
_OWN = ("", "private", "shareable", "none")


def check(options: ContainerOptions, image: str) -> None:
    """Raise UnsupportedError for *options* that a container in a machine cannot have."""
    if image == HOST:
        raise _refusal(f"the image {HOST}")
    refused = {
        "--privileged": options.privileged,
        "--userns": options.userns not in ("", "host"),
        "--device": bool(options.resources.devices),
        "--pid": options.pid not in _OWN,
        "--ipc": options.ipc not in _OWN,
        "--uts": options.uts not in _OWN,
        "--volumes-from": bool(options.volumes_from),
        "--network host or another container's": options.network.startswith(_OTHERS),
        "several networks": len(options.networks) > 1,
    }
    for name in (name for name, is_wanted in refused.items() if is_wanted):
        raise _refusal(name)
    if any(mount.type != "tmpfs" for mount in options.mounts) or options.volumes:
        raise _refusal("volumes and bind mounts")


def _refusal(what: str) -> UnsupportedError:
    return UnsupportedError(f"the runtime {VM} does not have {what}")


def stand_in(container: Container, process: OCIProcess) -> OCIProcess:
    """Return the jail's process that stands for a *process* in the guest."""
    what = {"process": process, "terminal": process.get("terminal", False)}
    text = msgspec.json.encode(what).decode()
    made = jail.command(jail.user_of(container.id), "command", text)
    made["terminal"] = process.get("terminal", False)
    if size := process.get("consoleSize"):
        made["consoleSize"] = size
    return made


class Machines:
    """Makes the jails."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._templates: dict[Kind, Template] = {}

    async def start_message(self, container: Container, message: dict[str, Any]) -> dict[str, Any]:
        """Return the shim's op "start" of the jail, from that of the container, whose files exist.

        Raises NotFoundError before `orlop vm setup`. The first start of a kind boots a machine.
        """
        await in_thread(self._prepare, container)
        root = jail.ROOT
        return {
            **message,
            "bundle": str(self._bundle(container)),
            "rootfs": [[root.type, root.source, root.target, list(root.options)]],
        }

    def _bundle(self, container: Container) -> Path:
        return self._context.settings.bundles / container.id / "machine"

    def _prepare(self, container: Container) -> None:
        bundle = self._bundle(container)
        (bundle / "rootfs").mkdir(parents=True, exist_ok=True)
        guest: Config = msgspec.json.decode((bundle.parent / "config.json").read_bytes())
        made = self._template(container)
        jailed = jail.Jailed(
            id=container.id,
            hostname=guest.get("hostname", container.id[:12]),
            kind=made.kind,
            template=made.folder,
            disks=Disks(image=self._disk(container), writes=self._writes(container)),
            bundle=str(bundle),
        )
        _write(bundle / "config.json", jail.config(jailed, guest))
        _write(bundle / "machine.json", jail.description(jailed))
        _write(bundle / "request", _request(container, guest))

    def _template(self, container: Container) -> Template:
        root = str(self._context.settings.root)
        image = setup.current(root)
        memory = container.options.resources.memory_bytes or 0
        kind = Kind(
            f"{image}/vmlinux",
            f"{image}/initrd",
            accelerator.find(image),
            memory_mib=_memory_mib(memory),
        )
        known = self._templates.get(kind)
        try:
            os.utime(known.folder if known else "")  # who is in use stays
        except FileNotFoundError:
            known = self._templates[kind] = template(root, kind)
        assert known is not None
        return known

    def _writes(self, container: Container) -> str:
        path = str(self._context.settings.containers / container.id / WRITES)
        size_bytes = container.options.disk_bytes or DEFAULT_BYTES
        make_writes(path, size_bytes, user=jail.user_of(container.id))
        return path

    def _disk(self, container: Container) -> str:
        """Return the disk of the container's image; made at the image's first start."""
        snapshots = self._context.snapshots
        keys = [LayerKey(key) for key in container.layers]

        def write_tar(out: Any) -> None:
            mounts = snapshots.mounts(container.id, keys, readonly=True)
            root = open_root([mount for mount in mounts if mount.target in ("", "/")])
            try:
                transfer.read_all(root, out)
            finally:
                os.close(root)

        return image_disk(str(self._context.settings.root), keys, write_tar)


def _memory_mib(wanted_bytes: int) -> int:
    """Return the size of a machine for a container of so much memory: one of few sizes."""
    size = _LEAST_MIB
    while (size - _GUEST_MIB) << 20 < wanted_bytes:
        size *= 2
    return size


def _request(container: Container, guest: Config) -> dict[str, object]:
    """Return what the agent starts: config.json without the host's paths, and their contents."""
    files: dict[str, object] = {}
    sysctls: dict[str, str] = {}
    mounts = []
    for mount in guest.get("mounts", []):
        if mount.get("type") == "bind":
            name = str(len(files))
            files[name] = _content(mount)
            mount["source"] = f"{FILES}/{name}"
        mounts.append(mount)
    guest["mounts"] = mounts
    if container.options.network != "none":  # the machine's own is the container's
        linux = guest["linux"]
        linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "network"]
        given = linux.pop("sysctl", {})
        linux["sysctl"] = {key: value for key, value in given.items() if not _is_of_network(key)}
        sysctls = {key: value for key, value in given.items() if _is_of_network(key)}
    policy = guest.get("linux", {}).get("seccomp")
    return {
        "id": container.id,
        "config": guest,
        "filter": seccomp.compile(policy).program.hex() if policy else "",
        "files": files,
        "sysctls": sysctls,
        "terminal": container.options.terminal,
    }


def _is_of_network(key: str) -> bool:
    return key.replace("/", ".").startswith("net.")


def _content(mount: OCIMount) -> tuple[int, str]:
    """Return mode and content, base64, of a file of the host that a container has mounted."""
    with open(mount["source"], "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_FILE:
            raise InvalidArgumentError(f"a virtual machine cannot have {mount['destination']}")
        return stat.S_IMODE(status.st_mode), b2a_base64(file.read(), newline=False).decode()


def _write(path: Path, value: object) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as file:
        file.write(msgspec.json.encode(value))
