"""What became of a command."""

from typing import Literal, NamedTuple

from orlop.sandbox.timeline import Timeline

StreamName = Literal["stdout", "stderr"]


class Usage(NamedTuple):
    """What a command, or a whole sandbox, has used so far.

    CPU time is that of every process it has started, also of those that nobody has waited
    for, and those that run on. A sandbox's memory is that of all its processes and files in
    memory together, and its I/O is counted where the host has cgroup v2 alone. A command's
    memory is that of its largest process at its largest, no less than the 16 MB that starting
    it takes, and its I/O that of the processes that were waited for: getrusage(2) counts no more.
    """

    user_s: float = 0.0
    system_s: float = 0.0
    peak_memory_bytes: int = 0
    read_bytes: int = 0  # from block devices, so nothing that was in memory already
    written_bytes: int = 0

    @property
    def cpu_s(self) -> float:
        """User and system time together."""
        return self.user_s + self.system_s


class Result(NamedTuple):
    """An exit code is 128 and the signal's number where a signal ended it: 137 is SIGKILL."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    stdout_truncated: bool  # it wrote more than the limit
    stderr_truncated: bool
    timed_out: bool  # it was killed at its time limit, with all that it had started
    duration_s: float
    usage: Usage = Usage()
    oom_killed: bool = False  # the kernel killed it: its sandbox's memory was used up
    timeline: Timeline = Timeline()  # empty unless its sandbox, or runner, is *timed*
