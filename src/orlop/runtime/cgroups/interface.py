"""What a cgroup can do, whichever version the host has, and what it counts."""

from __future__ import annotations

from orlop.model.light import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orlop.model.oci import Resources


class Write(NamedTuple):
    """One write that puts a limit in force.

    *field* is the limit's name in config.json, for error messages. *instead* is
    what to write where the file does not exist, as kernels differ; an *optional*
    one is then left out.
    """

    controller: str
    file: str
    value: str
    field: str
    instead: Write | None = None
    optional: bool = False


class CpuStatistics(NamedTuple):
    """Times in nanoseconds since the cgroup was made; periods are of the quota."""

    usage_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()  # v1 only
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


class MemoryStatistics(NamedTuple):
    """Bytes. *limit_bytes* is None where there is no limit."""

    usage_bytes: int = 0
    peak_bytes: int = 0
    limit_bytes: int | None = None
    swap_bytes: int = 0
    failures: int = 0  # times the limit was hit, where the kernel still counts that for v1
    stat: Mapping[str, int] = {}  # memory.stat as it is, v1's and v2's names differ


class PidsStatistics(NamedTuple):
    current: int = 0
    limit: int | None = None  # None where there is no limit


class BlockStatistics(NamedTuple):
    """One counter of one device: operation is "read", "write", …"""

    major: int
    minor: int
    operation: str
    value: int


class HugetlbStatistics(NamedTuple):
    size: str  # "2MB"
    usage_bytes: int
    peak_bytes: int
    failures: int


class Stall(NamedTuple):
    """How long processes waited: percents of the last 10, 60 and 300 seconds, and in all."""

    avg10: float
    avg60: float
    avg300: float
    total_us: int


class Statistics(NamedTuple):
    cpu: CpuStatistics = CpuStatistics()
    memory: MemoryStatistics = MemoryStatistics()
    pids: PidsStatistics = PidsStatistics()
    io_bytes: tuple[BlockStatistics, ...] = ()
    io_operations: tuple[BlockStatistics, ...] = ()
    hugetlb: tuple[HugetlbStatistics, ...] = ()
    version: int = 2  # which kernel interface was read: 1 or 2
    #: v2 only, by resource ("cpu", "memory", "io") and whether "some" waited or the "full" cgroup.
    pressure: Mapping[str, Mapping[str, Stall]] = {}


class Load(NamedTuple):
    """What monitors ask for again and again; -1 is what nobody counts, or of a cgroup that is gone.

    Memory is without what the page cache could give up at once, as `stats` shows it.
    """

    cpu_ns: int = -1
    memory_bytes: int = -1
    memory_limit_bytes: int = -1  # also where there is no limit
    processes: int = -1


class Owner(Protocol):
    """Who made a cgroup's folders and keeps them, where that is somebody else: systemd."""

    def doors(self) -> tuple[int, ...]:
        """Return what a child writes "0" to when it is in; the caller closes it."""

    def entered(self) -> None:
        """Take note that the first process is in."""

    def enter(self, pid: int) -> None:
        """Move process *pid* in, where we may not, and take note as entered() does."""

    def update(self, resources: Resources) -> None:
        """Change the limits that it keeps."""

    def remove(self) -> None:
        """Give up the folders; one already gone is no error."""


class Cgroup(Protocol):
    """A cgroup that exists. Values only, so a handle may outlive the process that made it.

    How a child gets in without the 5 to 15 ms that a migration costs (the kernel
    waits for an RCU grace period when one process moves another):

        fd = cgroup.clone_fd()           # None on a host without a v2 hierarchy
        doors = cgroup.doors()           # v1 hierarchies, open for writing
        clone3(…, cgroup_fd=fd)          # born inside the v2 one
        child: walk_in(doors)            # moves itself, alone: no grace period
        child: unshare(NEWCGROUP)        # after that, or its root is the wrong one
        parent: close all of them

    enter() does the same to any process from outside, slowly.
    """

    @property
    def path(self) -> str:
        """The cgroupsPath: absolute, the same in every hierarchy."""

    @property
    def directories(self) -> Mapping[str, str]:
        """Where each hierarchy has it, by its controllers ("cpu,cpuacct"), "" for v2."""

    def clone_fd(self) -> int | None:
        """Open the v2 directory for CLONE_INTO_CGROUP; the caller closes it."""

    def doors(self) -> tuple[int, ...]:
        """Open what a child writes "0" to (walk_in) to enter; the caller closes them."""

    def entered(self) -> None:
        """Take note that a child of the caller's is in, or has come to nothing.

        Blocks until it is so, and its own doors must be closed by then.
        """

    def enter(self, pid: int) -> None:
        """Move process *pid* into it, all threads. ProcessLookupError if there is none."""

    def update(self, resources: Resources) -> None:
        """Change the named limits in place and leave the others alone."""

    def give(self, uid: int) -> None:
        """Let user *uid* of the host make cgroups below it, as far as that is safe: v2 alone."""

    def freeze(self, *, timeout_s: float = 10.0) -> None:
        """Stop every process; return once the kernel says it is so. TimeoutError."""

    def thaw(self) -> None:
        """Let the processes run again; no error if they do."""

    def kill(self, signal: int = 9) -> None:
        """Signal every process. With SIGKILL nothing survives, frozen or forking."""

    def pids(self) -> Iterator[int]:
        """Give the processes of this cgroup and of those below."""

    def statistics(self) -> Statistics: ...

    def load(self) -> Load:
        """Read the most asked for of the counters, by few files."""

    def oom_kills(self) -> int:
        """Count the processes the kernel killed for want of memory."""

    def remove(self, *, timeout_s: float = 2.0) -> None:
        """Remove it and what is below; one already gone is no error.

        The kernel may need a moment after the last process was reaped; with a
        timeout of 0 this never sleeps.

        Raises:
            WrongStateError: it is still in use after *timeout_s* seconds.
        """
