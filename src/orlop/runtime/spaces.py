"""The namespaces that the containers of a pod share: made by a thread, which leaves them again.

    ipc, uts, network    as in config.json
    shm                  a mount namespace with nothing in it but the pod's /dev/shm

No process is in them; each lives as long as its descriptor. A mount namespace, because before
Linux 6.15 the kernel copies no mount that is in none.
"""

import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.mount import (
    MountAttr,
    MountFlag,
    Unmount,
    clone_mount,
    mount,
    move_mount,
    pivot_root,
    umount,
)
from orlop.kernel.namespaces import (
    FILES,
    Namespace,
    sethostname,
    setns,
    unshare,
    unshare_paths,
)
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import Options
from orlop.runtime.plan import Namespaces
from orlop.runtime.sysctl import plan_sysctls

if TYPE_CHECKING:
    from orlop.kernel.netlink.links import Counters

SHM = "/dev/shm"
_KINDS = {
    "ipc": Namespace.IPC,
    "uts": Namespace.UTS,
    "network": Namespace.NET,
    "shm": Namespace.MOUNT,
}
_SEALED = int(MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC)


class Wanted:
    """What a pod's namespaces are to be like. *network* is one that exists, if it is not new."""

    def __init__(
        self,
        kinds: Collection[str],
        *,
        hostname: str = "",
        sysctls: Mapping[str, str] | None = None,
        network: int | None = None,
        shm_bytes: int = 64 << 20,
    ) -> None:
        own = Namespace(0)
        for kind in kinds:
            own |= _KINDS[kind]
        self.new = own
        self.hostname = hostname
        self.network = network
        self.shm_bytes = shm_bytes
        if network is not None:
            own |= Namespace.NET
        self.sysctls = plan_sysctls(dict(sysctls or {}), Namespaces(own, (), None, ""))


def enter_thread() -> None:
    """Prepare the calling thread, which is to be used for nothing else."""
    unshare_paths()


def make(wanted: Wanted) -> dict[str, int]:
    """Return a descriptor of each new namespace, by kind; the caller closes them.

    Raises:
        UnsupportedError: this machine allows no more of them.
        InvalidArgumentError: a sysctl cannot have its value.
    """
    joined = Namespace.NET if wanted.network is not None else Namespace(0)
    with ExitStack() as undo, _back(wanted.new | joined):
        if wanted.network is not None:
            setns(wanted.network, Namespace.NET)
        try:
            unshare(wanted.new)
        except OSError as error:
            raise UnsupportedError(
                f"no namespaces can be made for a pod: {error.strerror}",
                hint="see the limits in /proc/sys/user",
            ) from error
        made = {}
        for kind, flag in _KINDS.items():
            if wanted.new & flag:
                made[kind] = _open_own(flag)
                undo.callback(os.close, made[kind])
        _prepare(wanted)
        undo.pop_all()
    return made


def _prepare(wanted: Wanted) -> None:
    """Set up the namespaces that this thread is in."""
    if wanted.new & Namespace.NET:
        raise_loopback()
    if wanted.new & Namespace.UTS:
        sethostname(wanted.hostname)
    for path, value in wanted.sysctls:
        _write_sysctl(path, value)
    if wanted.new & Namespace.MOUNT:
        keep_only_tmpfs(wanted.shm_bytes)


def _write_sysctl(path: str, value: str) -> None:
    try:
        fd = os.open(f"/proc/sys/{path}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise UnsupportedError(f"this kernel has no sysctl {path.replace('/', '.')}") from error
    except OSError as error:
        raise InvalidArgumentError(
            f"sysctl {path.replace('/', '.')} cannot be {value!r}: {error.strerror}"
        ) from error


def keep_only_tmpfs(size_bytes: int) -> None:
    """Make a new tmpfs the root of this thread's mount namespace, and its only mount."""
    mount("", "/", flags=int(MountFlag.REC | MountFlag.PRIVATE))
    options = Options(set_=_SEALED, filesystem=(("mode", "1777"), ("size", str(size_bytes))))
    made = filesystem("tmpfs", "shm", options)
    try:
        host = os.open("/", os.O_PATH | os.O_CLOEXEC)
        move_mount(made, host)
        os.close(host)
        os.fchdir(made)
    finally:
        os.close(made)
    pivot_root(".", ".")
    umount(".", Unmount.DETACH)


def open_socket(namespace: int, family: int) -> socket.socket:
    """Return a TCP socket of a network *namespace*, which does not block."""
    with _back(Namespace.NET):
        setns(namespace, Namespace.NET)
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def traffic(namespace: int) -> "dict[str, Counters]":
    """Return what went through the interfaces of a network *namespace*, but for lo."""
    from orlop.kernel.netlink.connection import Netlink  # few ask for it
    from orlop.kernel.netlink.links import each_counted

    with _back(Namespace.NET):
        setns(namespace, Namespace.NET)
        with Netlink() as there:
            return {name: seen for name, seen in each_counted(there) if name != "lo"}


def copy_shm(namespace: int) -> int:
    """Return a detached copy of the /dev/shm in a pod's "shm"; the caller closes it."""
    with _back(Namespace.MOUNT):
        setns(namespace, Namespace.MOUNT)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return clone_mount(root)
        finally:
            os.close(root)


@contextmanager
def _back(kinds: Namespace) -> Iterator[None]:
    """Be in the namespaces of before again when the block ends, with the same root."""
    with ExitStack() as stack:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, root)
        own = {}
        for flag in _KINDS.values():
            if kinds & flag:
                own[flag] = _open_own(flag)
                stack.callback(os.close, own[flag])
        try:
            yield
        finally:
            _return(own, root)


def _return(own: Mapping[Namespace, int], root: int) -> None:
    try:
        for flag, fd in own.items():
            setns(fd, flag)
        if Namespace.MOUNT in own:
            os.fchdir(root)
            os.chroot(".")
    except OSError as error:  # this thread is in the wrong namespace: it must do nothing more
        raise SystemError("the thread cannot get back to its own namespaces") from error


def _open_own(flag: Namespace) -> int:
    return os.open(f"/proc/thread-self/ns/{FILES[flag]}", os.O_RDONLY | os.O_CLOEXEC)
