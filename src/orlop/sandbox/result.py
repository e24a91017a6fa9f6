"""What became of a command."""

from typing import Literal, NamedTuple

StreamName = Literal["stdout", "stderr"]


class Result(NamedTuple):
    """An exit code is 128 and the signal's number where a signal ended it: 137 is SIGKILL."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    stdout_truncated: bool  # it wrote more than the limit
    stderr_truncated: bool
    timed_out: bool  # it was killed at its time limit, with all that it had started
    duration_s: float
