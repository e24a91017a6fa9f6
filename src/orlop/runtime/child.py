"""The state of a child between clone3 and execve, which every step takes."""

from __future__ import annotations

import os

from orlop.kernel.namespaces import Namespace
from orlop.model import oci
from orlop.model.light import TYPE_CHECKING, Callable, Iterator, NamedTuple, Sequence
from orlop.model.mount import Mount
from orlop.runtime.bundle import Gate, Stdio
from orlop.runtime.plan import MountPlan, Namespaces, ProcessPlan

if TYPE_CHECKING:
    from orlop.runtime.hooks import Hooks
    from orlop.runtime.listener import Listener
    from orlop.runtime.scheduling import MemoryPolicy
    from orlop.runtime.seccomp import Filter


class ContainerPlan(NamedTuple):
    """Everything that the first process sets up for its container."""

    id: str
    namespaces: Namespaces
    root: tuple[Mount, ...]
    root_readonly: bool
    root_path: str  # the root's path on the host; "" for a root made of mounts only
    no_pivot: bool
    propagation: str
    mounts: tuple[MountPlan, ...]
    cgroup_folders: tuple[tuple[str, str], ...]  # name in /sys/fs/cgroup ("" for v2), host path
    devices: tuple[oci.Device, ...]
    masked: tuple[str, ...]
    readonly: tuple[str, ...]
    sysctls: tuple[tuple[str, str], ...]  # path under /proc/sys, value
    hostname: str
    domainname: str
    net_devices: tuple[tuple[str, str], ...]  # name on the host, name inside

    @property
    def seals_dev(self) -> bool:
        """Whether a new /dev is made read-only at the end."""
        new = (m for m in self.mounts if m.destination == "/dev" and m.kind == "filesystem")
        return any(plan.options.set_ != plan.fillable.set_ for plan in new)


class Child:
    """The state of one child. Descriptors in it are close-on-exec."""

    __slots__ = (
        "born_last",
        "cgroup",
        "console",
        "container",
        "contexts",
        "devices",
        "doors",
        "exposed",
        "filter",
        "gate",
        "gid",
        "go",
        "groups",
        "held",
        "home",
        "hooks",
        "join",
        "keyring",
        "listener",
        "memory_policy",
        "mounts",
        "parent",
        "personality",
        "pidfd",
        "preserve_fds",
        "proc",
        "process",
        "program",
        "report",
        "root",
        "stdio",
        "timed",
        "uid",
        "witness",
    )

    def __init__(
        self,
        process: ProcessPlan,
        *,
        container: ContainerPlan | None = None,
        stdio: Stdio | None,
        filter_: Filter | None = None,
    ) -> None:
        self.process = process
        self.container = container
        self.stdio = stdio
        self.filter = filter_
        self.listener: Listener | None = None  # of a filter with notification
        self.gate: Gate | None = None
        self.preserve_fds = 0  # number of descriptors from 3 up that the program inherits
        self.join: Sequence[tuple[Namespace, int]] = ()  # namespaces to join, by descriptor
        self.pidfd = -1  # of the process whose namespaces are joined
        self.root = -1  # the container's root
        self.contexts: list[int] = []  # for proc, if a pid namespace is joined
        self.proc = -1  # a proc of the container's pid namespace
        self.mounts: dict[int, int] = {}  # detached, by their index in the plan
        self.devices: dict[str, int] = {}  # nodes of the host, detached, by path
        self.keyring = ""  # name of the session keyring to join; "" for the caller's
        self.personality: int | None = None
        self.memory_policy: MemoryPolicy | None = None
        self.hooks: Hooks | None = None
        self.console = -1  # socket that sends the terminal's master to the parent
        self.held = -1  # the parent writes one byte after moving us into our cgroup
        self.cgroup = -1  # folder in which a helper outside the cgroup makes the process
        self.doors: Sequence[int] = ()  # cgroup.procs files of the cgroup, to write "0" to
        self.born_last = False  # its maker takes the first steps for it
        self.exposed = False  # processes in its pid namespace may trace it
        self.report = -1
        self.timed = False  # report when each step began: noting.py
        self.go = -1  # the parent writes one byte when its part is done
        self.witness = -1  # an eventfd: WITNESSED, and then our OUTLIVES
        self.parent = -1  # a pipe that closes when the process that writes to the witness dies
        self.uid, self.gid = 0, 0
        self.groups: Sequence[int] = ()
        self.home, self.program = "/", ""

    def last_descriptors(self) -> Iterator[int]:
        """Find the descriptors that the last_steps() of init.py use."""
        yield from self.stdio or ()
        yield from self.gate or ()
        yield from self.listener.descriptors() if self.listener else ()
        single = (self.root, self.proc, self.report, self.console, self.witness, self.parent)
        yield from (fd for fd in single if fd >= 0)

    def descriptors(self) -> Iterator[int]:
        """Find every descriptor that the steps use."""
        yield from (fd for _, fd in self.join if fd >= 0)
        yield from self.doors
        yield from self.mounts.values()
        yield from self.devices.values()
        single = (self.pidfd, self.held, self.go)
        yield from (fd for fd in single if fd >= 0)
        yield from self.last_descriptors()

    @property
    def plan(self) -> ContainerPlan:
        """The container's plan; only its first process has one."""
        assert self.container is not None
        return self.container


#: A step changes one thing in the process it runs in, or raises OSError or StepError.
Step = Callable[[Child], None]


def take(fd: int) -> None:
    """Close *fd* if it is open; a detached mount disappears with it, an attached one stays."""
    if fd >= 0:
        os.close(fd)
