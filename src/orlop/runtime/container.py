"""Plan from config.json what the first process sets up for its container."""

from __future__ import annotations

import os

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.kernel.namespaces import Namespace
from orlop.model.light import TYPE_CHECKING, Sequence
from orlop.model.mount import Mount
from orlop.model.oci import Linux
from orlop.runtime.bundle import Bundle
from orlop.runtime.cgroups.layout import own_directories
from orlop.runtime.child import ContainerPlan
from orlop.runtime.devices import all_devices
from orlop.runtime.filesystems import BENEATH
from orlop.runtime.options import Special
from orlop.runtime.plan import MountKind, MountPlan, Namespaces, plan_mount
from orlop.runtime.sysctl import plan_sysctls

if TYPE_CHECKING:
    from orlop.runtime.cgroups.interface import Cgroup

_BINDS = (MountKind.BIND, MountKind.INSIDE)
_LONGEST_HOST_NAME = 64
_PROPAGATIONS = ("", "shared", "slave", "private", "unbindable")


def plan_container(bundle: Bundle, namespaces: Namespaces, cgroup: Cgroup | None) -> ContainerPlan:
    """Check and compute everything about the container, but not about its process."""
    config = bundle.config
    linux = config.get("linux", {})
    _refuse_unsupported(linux)
    if linux.get("maskedPaths") or linux.get("readonlyPaths"):
        _need_mount_namespace(namespaces)
    propagation = linux.get("rootfsPropagation", "")
    if propagation.removeprefix("r") not in _PROPAGATIONS:
        raise InvalidArgumentError(f"linux.rootfsPropagation {propagation!r} is unknown")
    mounts = _mounts(bundle)
    hostname, domainname = config.get("hostname", ""), config.get("domainname", "")
    if (hostname or domainname) and Namespace.UTS not in _own(namespaces):
        raise InvalidArgumentError(
            "hostname and domainname need a uts namespace of the container's own"
        )
    if max(len(os.fsencode(hostname)), len(os.fsencode(domainname))) > _LONGEST_HOST_NAME:
        raise InvalidArgumentError("hostname and domainname are at most 64 bytes long")
    dev_is_given = any(
        plan.kind in _BINDS and plan.destination.rstrip("/") == "/dev" for plan in mounts
    )
    return ContainerPlan(
        id=bundle.id,
        namespaces=namespaces,
        root=_root(bundle),
        root_readonly=config.get("root", {}).get("readonly", False),
        root_path=_root_path(bundle),
        no_pivot=bundle.manner.no_pivot,
        propagation=propagation,
        mounts=mounts,
        cgroup_folders=_cgroup_folders(cgroup, mounts),
        devices=() if dev_is_given else all_devices(linux.get("devices", ())),
        masked=_absolute(linux.get("maskedPaths", ()), "linux.maskedPaths"),
        readonly=_absolute(linux.get("readonlyPaths", ()), "linux.readonlyPaths"),
        sysctls=plan_sysctls(linux.get("sysctl", {}), namespaces),
        hostname=hostname,
        domainname=domainname,
        net_devices=_net_devices(linux, namespaces) if linux.get("netDevices") else (),
    )


def _absolute(paths: Sequence[str], where: str) -> tuple[str, ...]:
    for index, path in enumerate(paths):
        if not path.startswith("/"):
            raise InvalidArgumentError(f"{where}[{index}] {path!r} is not absolute")
    return tuple(paths)


def _own(namespaces: Namespaces) -> Namespace:
    own = namespaces.new
    for kind, _ in namespaces.join:
        own |= kind
    return own


def _mounts(bundle: Bundle) -> tuple[MountPlan, ...]:
    label = bundle.config.get("linux", {}).get("mountLabel", "")
    plans = [
        plan_mount(mount, bundle.path, f"mounts[{index}]", label)
        for index, mount in enumerate(bundle.config.get("mounts", ()))
    ]
    if not bundle.rootfs:  # only an engine's bundle may say where links end
        plans = [plan._replace(source=plan.source.replace(BENEATH, "/")) for plan in plans]
        plans = _of_the_root(plans, os.path.normpath(_root_path(bundle)) + "/")
    return tuple(plans)


def _of_the_root(plans: Sequence[MountPlan], root: str) -> list[MountPlan]:
    """Resolve a bind mount's source inside the *root* if an earlier mount made it there."""
    found = []
    for index, plan in enumerate(plans):
        source = os.path.normpath(plan.source)
        if plan.kind is MountKind.BIND and source.startswith(root):
            inside = source[len(root) - 1 :]
            if any(_is_related(inside, earlier.destination) for earlier in plans[:index]):
                if plan.idmap or plan.options.special & {Special.IDMAP, Special.RIDMAP}:
                    raise UnsupportedError(
                        f"mounts[{index}]: what an earlier mount has made cannot be id-mapped"
                    )
                plan = plan._replace(kind=MountKind.INSIDE, source=inside)
        found.append(plan)
    return found


def _is_related(one: str, other: str) -> bool:
    """Whether one of the two paths is the other, or above it."""
    one, other = (f"{os.path.normpath(path)}/" for path in (one, other))
    return one.startswith(other) or other.startswith(one)


def _root(bundle: Bundle) -> tuple[Mount, ...]:
    if bundle.rootfs:
        return bundle.rootfs
    path = _root_path(bundle)
    if not path:
        raise InvalidArgumentError("root.path is missing: the bundle has no root file system")
    return (Mount("bind", path, "/", ("rbind",)),)


def _root_path(bundle: Bundle) -> str:
    """Return the root's path on the host; "" if it is made of mounts, and no mount needs it."""
    if bundle.rootfs and not bundle.config.get("hooks") and not bundle.manner.no_pivot:
        return ""
    path = bundle.config.get("root", {}).get("path", "")
    return os.path.join(bundle.path, path) if path else ""


def _need_mount_namespace(namespaces: Namespaces) -> None:
    if Namespace.MOUNT not in _own(namespaces):
        raise InvalidArgumentError(
            "linux.maskedPaths and linux.readonlyPaths need a mount namespace of one's own"
        )


def _net_devices(linux: Linux, namespaces: Namespaces) -> tuple[tuple[str, str], ...]:
    from orlop.runtime.netdevices import plan_net_devices  # rare

    return plan_net_devices(linux, namespaces)


def _refuse_unsupported(linux: Linux) -> None:
    if linux.get("intelRdt"):
        raise UnsupportedError("linux.intelRdt is not supported")
    if linux.get("mountLabel"):
        from orlop.runtime.labels import check_mount_label  # rare

        check_mount_label(linux)


def _cgroup_folders(
    cgroup: Cgroup | None, mounts: tuple[MountPlan, ...]
) -> tuple[tuple[str, str], ...]:
    if not any(plan.kind is MountKind.CGROUP for plan in mounts):
        return ()
    # An ordinary user's container is in the user's own cgroup, which may not be changed.
    folders = own_directories() if cgroup is None else cgroup.directories
    if len(folders) == 1:
        return tuple(folders.items())
    return tuple((name.removeprefix("name=") or "unified", path) for name, path in folders.items())
