"""Kernel parameters: only those of namespaces that belong to the container alone."""

import errno
import os

from orlop.errors import InvalidArgumentError
from orlop.kernel.namespaces import FILES, Namespace
from orlop.kernel.paths import open_on_mount
from orlop.runtime.child import Child
from orlop.runtime.failure import StepError
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import Options
from orlop.runtime.plan import Namespaces

_KEY = r"[a-z0-9_-]+([./][a-zA-Z0-9_@:-]+)+"

_IPC = frozenset(
    (
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    )
)


def plan_sysctls(wanted: dict[str, str], namespaces: Namespaces) -> tuple[tuple[str, str], ...]:
    """Check keys and values, and return paths under /proc/sys with their values.

    InvalidArgumentError for a key that would change the host.
    """
    own = namespaces.new
    if wanted:
        for kind, path in namespaces.join:
            if not _is_ours(kind, path):
                own |= kind
    return tuple((_path(key, own), _value(key, value)) for key, value in wanted.items())


def _is_ours(kind: Namespace, path: str) -> bool:
    """Whether the namespace at *path* is the caller's own."""
    try:
        return os.path.samefile(path, f"/proc/self/ns/{FILES[kind]}")
    except OSError:
        return True  # joining it will report the error


def write_sysctls(child: Child) -> None:
    """Write the parameters through our own proc mount, which no image can put a file into."""
    if child.plan.sysctls and child.proc < 0:
        context = child.contexts.pop() if child.contexts else -1
        child.proc = filesystem("proc", "proc", Options(), context=context)
    for path, value in child.plan.sysctls:
        fd = _open(child.proc, path)
        try:
            os.write(fd, value.encode())
        except OSError as error:
            raise OSError(error.errno, f"sysctl {path}: {error.strerror}") from None
        finally:
            os.close(fd)


def _open(proc: int, path: str) -> int:
    try:
        return open_on_mount(proc, f"sys/{path}", os.O_WRONLY)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise StepError(f"/proc/sys/{path} is not the kernel's") from None
        raise


def _path(key: str, own: Namespace) -> str:
    import re  # costs more than everything else here, and sysctls are rare

    if not re.fullmatch(_KEY, key):
        raise InvalidArgumentError(f"invalid sysctl name {key!r}")
    # As in sysctl(8): if "/" comes first, "." is part of a name, such as a VLAN device's.
    first = next(c for c in key if c in "./")
    path = key if first == "/" else key.replace("/", "\0").replace(".", "/").replace("\0", ".")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise InvalidArgumentError(f"invalid sysctl name {key!r}")
    needed = _namespace(path)
    if needed is None:
        raise InvalidArgumentError(
            f"sysctl {key!r} is not of a namespace: it would change the host"
        )
    if needed not in own:
        name = str(needed.name).lower()
        raise InvalidArgumentError(
            f"sysctl {key!r} needs a {name} namespace of the container's own"
        )
    return path


def _namespace(path: str) -> Namespace | None:
    if path.startswith("net/"):
        return Namespace.NET
    if path in _IPC or path.startswith("fs/mqueue/"):
        return Namespace.IPC
    if path == "kernel/domainname":
        return Namespace.UTS
    return Namespace.USER if path.startswith("user/") else None


def _value(key: str, value: str) -> str:
    if any(ord(c) < 32 and c != "\t" for c in value) or len(value) > 4096:
        raise InvalidArgumentError(f"invalid value for sysctl {key!r}")
    return value
