"""A container that runs in a machine before its template is saved.

It is started like every other one, from the guest's own system. So clones find imports, caches and
the interpreter's specialized code of a start in the template's memory.
"""

from collections.abc import Sequence

from orlop.microvm.system import interpreter
from orlop.model.oci import Config, OCIMount
from orlop.model.oci import Process as OCIProcess

_SEALED = ["nosuid", "noexec", "nodev"]
_CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_RAW"]


def request() -> dict[str, object]:
    """Return the START of a container that ends with its input."""
    return {
        "id": "rehearsal",
        "rehearsal": True,
        "config": _config(),
        "filter": "",
        "files": {},
        "sysctls": {},
        "card": None,
        "terminal": False,
    }


def command() -> dict[str, object]:
    """Return the EXEC of a command that does nothing."""
    return {"process": _process("-c", ""), "terminal": False}


def _process(*words: str) -> OCIProcess:
    return {
        "args": [interpreter(), "-I", "-S", *words],
        "env": ["PATH=/usr/bin:/bin", "HOME=/"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0, "umask": 0o022},
        "capabilities": {
            "bounding": _CAPABILITIES,
            "effective": _CAPABILITIES,
            "permitted": _CAPABILITIES,
        },
        "noNewPrivileges": False,
    }


def _config() -> Config:
    kinds = ("mount", "network", "ipc", "pid", "uts", "cgroup")
    return {
        "ociVersion": "1.2.1",
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "rehearsal",
        "process": _process("-c", "import os; os.read(0, 1)"),
        "mounts": [
            _mount("/proc", "proc", _SEALED),
            _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]),
            _mount("/sys", "sysfs", [*_SEALED, "ro"]),
            _mount("/sys/fs/cgroup", "cgroup", [*_SEALED, "ro"]),
            _mount("/dev/mqueue", "mqueue", _SEALED),
            _mount("/dev/shm", "tmpfs", [*_SEALED, "mode=1777", "size=67108864"]),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "cgroupsPath": "/orlop/rehearsal",
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "pids": {"limit": 4096},
            },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/irq", "/proc/bus"],
        },
    }


def _mount(target: str, kind: str, options: Sequence[str]) -> OCIMount:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}
