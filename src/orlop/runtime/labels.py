"""Security labels: refused by name if the kernel does not support them."""

from orlop.errors import UnsupportedError
from orlop.model import oci

_APPARMOR = "/sys/module/apparmor/parameters/enabled"


def check_labels(process: oci.Process) -> None:
    """Check that this host supports the process's labels."""
    if process.get("apparmorProfile") and not _has_apparmor():
        raise UnsupportedError("process.apparmorProfile: this host has no AppArmor")
    if process.get("selinuxLabel") and not _has_selinux():
        raise UnsupportedError("process.selinuxLabel: this host has no SELinux")


def check_mount_label(linux: oci.Linux) -> None:
    """Check that this host supports the mounts' label."""
    if linux.get("mountLabel") and not _has_selinux():
        raise UnsupportedError("linux.mountLabel: this host has no SELinux")


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
