"""The interface of a cgroup, for every version, and its statistics."""

from __future__ import annotations

from orlop.model.light import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orlop.model.oci import Resources


class Write(NamedTuple):
    """One write that sets a limit.

    *field* is the limit's name in config.json, for error messages. *instead* is the
    alternative if the file does not exist on this kernel; an *optional* write is
    then skipped.
    """

    controller: str
    file: str
    value: str
    field: str
    instead: Write | None = None
    optional: bool = False


class CpuStatistics(NamedTuple):
    """Times in nanoseconds since the cgroup was made; periods are the quota's."""

    usage_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()  # v1 only
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


class MemoryStatistics(NamedTuple):
    """Bytes. *limit_bytes* is None if there is no limit."""

    usage_bytes: int = 0
    peak_bytes: int = 0
    limit_bytes: int | None = None
    swap_bytes: int = 0
    failures: int = 0  # times the limit was hit, if the kernel still counts it for v1
    stat: Mapping[str, int] = {}  # memory.stat unchanged; names differ between v1 and v2


class PidsStatistics(NamedTuple):
    current: int = 0
    limit: int | None = None  # None if there is no limit


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
    """Waiting time of processes: per cent of the last 10, 60 and 300 seconds, and the total."""

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
    version: int = 2  # the kernel interface: 1 or 2
    #: v2 only, by resource ("cpu", "memory", "io") and whether "some" or all ("full") waited.
    pressure: Mapping[str, Mapping[str, Stall]] = {}


class Load(NamedTuple):
    """The counters that monitors read often; -1 if not counted, or if the cgroup is gone.

    Memory excludes page cache that can be reclaimed at once, as `stats` shows it.
    """

    cpu_ns: int = -1
    memory_bytes: int = -1
    memory_limit_bytes: int = -1  # -1 also if there is no limit
    processes: int = -1


class Owner(Protocol):
    """The owner of a cgroup's folders if it is not us: systemd."""

    def doors(self) -> tuple[int, ...]:
        """Return what a child writes "0" to after it has entered; the caller closes it."""

    def entered(self) -> None:
        """Note that the first process has entered."""

    def enter(self, pid: int) -> None:
        """Move process *pid* in, where we may not, and note it like entered()."""

    def update(self, resources: Resources) -> None:
        """Change the limits that the owner keeps."""

    def remove(self) -> None:
        """Release the folders; no error if they are gone."""


class Cgroup(Protocol):
    """A cgroup that exists. A handle has only values, so it may outlive its process.

    A child enters without the 5 to 15 ms of a migration (the kernel waits for an RCU
    grace period when one process moves another) in this way:

        fd = cgroup.clone_fd()           # None on a host without a v2 hierarchy
        doors = cgroup.doors()           # v1 cgroup.procs files, open for writing
        clone3(…, cgroup_fd=fd)          # born inside the v2 cgroup
        child: walk_in(doors)            # moves itself, alone: no grace period
        child: unshare(NEWCGROUP)        # afterwards, or its root is the wrong one
        parent: close all of them

    enter() moves any process from outside, slowly.
    """

    @property
    def path(self) -> str:
        """The cgroupsPath: absolute, the same in every hierarchy."""

    @property
    def directories(self) -> Mapping[str, str]:
        """Its folder in each hierarchy, by controllers ("cpu,cpuacct"), "" for v2."""

    def clone_fd(self) -> int | None:
        """Open the v2 directory for CLONE_INTO_CGROUP; the caller closes it."""

    def doors(self) -> tuple[int, ...]:
        """Open the files that a child writes "0" to (walk_in) to enter; the caller closes them."""

    def entered(self) -> None:
        """Note that a child of the caller's has entered, or has failed.

        Blocks until this is so; the caller must have closed its own doors.
        """

    def enter(self, pid: int) -> None:
        """Move process *pid*, all threads, into it. ProcessLookupError if it does not exist."""

    def update(self, resources: Resources) -> None:
        """Change the given limits in place and leave the others alone."""

    def give(self, uid: int) -> None:
        """Let user *uid* of the host make cgroups below it, as far as that is safe: v2 only."""

    def freeze(self, *, timeout_s: float = 10.0) -> None:
        """Stop every process; return when the kernel reports it frozen. TimeoutError."""

    def thaw(self) -> None:
        """Let the processes run again; no error if they are running."""

    def kill(self, signal: int = 9) -> None:
        """Signal every process. SIGKILL kills all, also frozen and forking ones."""

    def pids(self) -> Iterator[int]:
        """Yield the processes of this cgroup and of those below."""

    def statistics(self) -> Statistics: ...

    def load(self) -> Load:
        """Read the most requested counters, from few files."""

    def oom_kills(self) -> int:
        """Count the processes that the kernel killed because memory was used up."""

    def remove(self, *, timeout_s: float = 2.0) -> None:
        """Remove it and all cgroups below; one already gone is no error.

        The kernel may need a moment after the last process was reaped; with a
        timeout of 0 this never sleeps.
        Raises:
            WrongStateError: it is still in use after *timeout_s* seconds.
        """
