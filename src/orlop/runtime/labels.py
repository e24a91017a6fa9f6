"""Security labels: refused by name where the kernel has none of the kind."""

from collections.abc import Iterable

from orlop.errors import UnsupportedError
from orlop.model import oci
from orlop.runtime.plan import MountKind, MountPlan

_APPARMOR = "/sys/module/apparmor/parameters/enabled"
_UNLABELLED = frozenset(("proc", "sysfs", "mqueue"))


def check_labels(process: oci.Process) -> None:
    """Look whether this host has what the process's labels are for."""
    if process.get("apparmorProfile") and not _has_apparmor():
        raise UnsupportedError("process.apparmorProfile: this host has no AppArmor")
    if process.get("selinuxLabel") and not _has_selinux():
        raise UnsupportedError("process.selinuxLabel: this host has no SELinux")


def labelled(plans: Iterable[MountPlan], label: str) -> list[MountPlan]:
    """Give new file systems the *label* for all that is in them. config-linux.md, "Mount Label"."""
    if not _has_selinux():
        raise UnsupportedError("linux.mountLabel: this host has no SELinux")
    context = ("context", label)
    return [
        plan._replace(options=plan.options._replace(filesystem=(*plan.options.filesystem, context)))
        if plan.kind is MountKind.FILESYSTEM and plan.fstype not in _UNLABELLED
        else plan
        for plan in plans
    ]


def _has_apparmor() -> bool:
    return _read(_APPARMOR).startswith("Y")


def _has_selinux() -> bool:
    return "\tselinuxfs\n" in _read("/proc/filesystems")


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
