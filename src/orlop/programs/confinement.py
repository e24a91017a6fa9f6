"""Confine the process of a worker's job, because its input is untrusted.

    plan = Plan.make(cache)           # once, while nothing is confined
    plan.missing                      # protections that this host lacks
    in the child: plan.enter(Reach(writable=…, readable=…, network=…), budget)

Its user owns nothing and runs nothing else; files that it makes belong to root. It has the
capabilities for unpacking, bounded by: its own mount table, in which no device can be opened;
access only to the *writable* folders and to what Python needs to read (Landlock); no system
call that mounts, traces, joins namespaces or loads code (seccomp), and no socket unless it
fetches; limits of memory, processor time and file size.

docs/decisions/hostile-layers.md.
"""

import glob
import os
import resource
import shutil
import signal
import ssl
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from orlop.errors import OrlopError
from orlop.kernel import capabilities, landlock, seccomp
from orlop.kernel.landlock import EVERYTHING, READ, Access
from orlop.kernel.mount import (
    MountAttr,
    MountFlag,
    OpenTree,
    mount,
    mount_setattr,
    move_mount,
    open_tree,
)
from orlop.kernel.namespaces import Namespace, unshare
from orlop.kernel.process import (
    set_dumpable,
    set_file_ids,
    set_keep_capabilities,
    set_no_new_privileges,
    set_parent_death_signal,
)
from orlop.layers.budget import Budget
from orlop.model.oci import Seccomp, SeccompSyscall
from orlop.runtime.seccomp import compile as compile_filter
from orlop.runtime.seccomp_default import profile
from orlop.runtime.seccomp_profile import resolve

#: Its user and group: without an account, and in no range that is mapped to containers.
USER = 2_147_480_000
_KEPT = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP"),
    *("CAP_SETGID", "CAP_SETUID"),  # for mkfs.erofs, which runs as nobody
    "CAP_SYS_ADMIN",  # overlay's marks are trusted attributes
)
_ADMIN = "CAP_SYS_ADMIN"

#: Allowed in containers, but not needed here.
_REFUSED = frozenset(
    {"accept", "accept4", "listen", "ptrace", "process_vm_readv", "process_vm_writev"}
    | {"process_mrelease", "pidfd_send_signal", "name_to_handle_at"}
    | {"shmat", "shmget", "msgget", "semget", "mq_open", "socket"}
)
_OF_NETWORK = frozenset({"bind", "connect", "recvmmsg", "recvmmsg_time64", "sendmmsg"})
_AF_INET, _AF_INET6, _AF_NETLINK = 2, 10, 16  # not AF_UNIX: the engine's socket is of that kind

_NETWORK_FILES = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs"),
    *(
        "/etc/pki/ca-trust/extracted",
        "/etc/ca-certificates/extracted",
        "/usr/share/ca-certificates",
    ),
    "/usr/local/share/ca-certificates",
)
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_LOADERS = ("/lib64/ld-*.so*", "/lib/ld-*.so*", "/usr/lib/ld-*.so*")
_CPU_FACTOR = 4  # the budget is the unpacking thread's; others download and decompress
_OPEN_FILES = 1024


class Reach(NamedTuple):
    """The resources of one job."""

    writable: Sequence[str]
    readable: Sequence[str] = ()
    network: bool = False


class Plan(NamedTuple):
    """The part that is the same for all jobs; made once."""

    readable: dict[str, Access]
    filters: dict[bool, bytes]  # by whether there is a network; empty without seccomp on this host
    missing: tuple[str, ...]

    @classmethod
    def make(cls, cache: str | None = None) -> Self:
        """Check what the host supports; compiled filters are in the folder *cache*."""
        missing = [] if landlock.abi() else ["landlock"]
        filters: dict[bool, bytes] = {}
        try:
            for network in (False, True):
                filters[network] = compile_filter(_policy(network=network), cache=cache).program
        except OrlopError:  # no libseccomp
            missing.append("seccomp")
        return cls(_needed_to_run(), filters, tuple(missing))

    def enter(self, reach: Reach, budget: Budget) -> None:
        """Confine this process, which has no threads, for good."""
        limit(budget)
        _hide_devices(reach.writable)
        _become_user()
        set_parent_death_signal(signal.SIGKILL)  # again: a change of user clears it
        set_dumpable(dumpable=False)
        set_no_new_privileges()
        if "landlock" not in self.missing:
            allowed = self.readable | dict.fromkeys(reach.readable, READ)
            if reach.network:
                allowed |= {os.path.realpath(path): READ for path in _network_files()}
            allowed |= dict.fromkeys(reach.writable, EVERYTHING)
            landlock.restrict(allowed, connects=reach.network)
        if reach.network in self.filters:
            seccomp.load(self.filters[reach.network], 0)


def _policy(*, network: bool) -> Seccomp:
    """Return a container's policy without CAP_SYS_ADMIN's calls, and without unneeded calls."""
    policy = resolve(profile(), [name for name in _KEPT if name != _ADMIN])
    refused = _REFUSED if network else _REFUSED | _OF_NETWORK
    rules: list[SeccompSyscall] = []
    for rule in policy.get("syscalls", []):
        names = [name for name in rule.get("names", []) if name not in refused]
        if names:
            rules.append({**rule, "names": names})
    for family in (_AF_INET, _AF_INET6, _AF_NETLINK) if network else ():
        rules.append(
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}],
            }
        )
    policy["syscalls"] = rules
    policy.pop("architectures", None)  # only the native one
    return policy


def _needed_to_run() -> dict[str, Access]:
    """Return the paths that Python and mkfs.erofs read in every job."""
    allowed = {path: READ for path in (*_LIBRARIES, *_import_folders()) if path}
    allowed |= {"/dev/null": READ | Access.WRITE_FILE, "/dev/urandom": READ}
    programs = [shutil.which("mkfs.erofs") or ""]
    for path in (*programs, *(path for pattern in _LOADERS for path in glob.glob(pattern))):
        allowed[os.path.realpath(path)] = READ | Access.EXECUTE
    allowed.pop(os.path.realpath(""), None)
    return allowed


def _import_folders() -> Iterable[str]:
    yield from sys.path
    yield from (sys.prefix + "/lib", sys.base_prefix + "/lib", os.path.dirname(os.__file__))


def _network_files() -> Iterable[str]:
    yield from _NETWORK_FILES
    paths = ssl.get_default_verify_paths()
    yield from (path for path in (paths.cafile, paths.capath) if path)


def limit(budget: Budget) -> None:
    """Limit this process to the *budget*."""
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, budget.processor_s * _CPU_FACTOR + 2),
        (resource.RLIMIT_DATA, budget.memory_bytes),
        (resource.RLIMIT_FSIZE, budget.file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        soft = most - 1 if kind == resource.RLIMIT_CPU else most  # SIGXCPU before SIGKILL
        resource.setrlimit(kind, (soft, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # EFBIG instead


def _hide_devices(folders: Iterable[str]) -> None:
    """Make a mount namespace in which device nodes from a layer cannot be opened."""
    unshare(Namespace.MOUNT | Namespace.IPC)
    mount("", "/", flags=MountFlag.REC | MountFlag.PRIVATE)
    for folder in folders:
        fd = open_tree(folder, OpenTree.CLONE | OpenTree.RECURSIVE)
        try:
            attributes = MountAttr.NODEV | MountAttr.NOSUID | MountAttr.NOEXEC
            mount_setattr(fd, set_=attributes, recursive=True)
            target = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            try:
                move_mount(fd, target)
            finally:
                os.close(target)
        finally:
            os.close(fd)


def _become_user() -> None:
    """Become USER with the capabilities of _KEPT; new files still belong to root."""
    kept = capabilities.mask(_KEPT)
    set_keep_capabilities(keep=True)
    capabilities.drop_bounding(capabilities.supported() & ~kept)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    capabilities.capset(kept, kept, 0)
    set_file_ids(0, 0)
