"""Read /proc/PID/stat. proc_pid_stat(5)."""

import os

EXITING = 0x00000004  # PF_EXITING, in the flags: field 9
FORKED = 0x00000040  # PF_FORKNOEXEC: it has not executed a program yet


def read_stat(pid: int) -> list[bytes]:
    """Return the fields from the third one, the state, on.

    Raises:
        OSError: FileNotFoundError or ProcessLookupError if there is no such process.
    """
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    finally:
        os.close(fd)


def has_ended(fields: list[bytes]) -> bool:
    """Whether the process is a zombie or dead."""
    return fields[0] in (b"Z", b"X")


def is_ending(pid: int) -> bool:
    """Whether process *pid* is exiting: no process can be made in its pid namespace then."""
    try:
        return bool(int(read_stat(pid)[6]) & EXITING)
    except (FileNotFoundError, ProcessLookupError):
        return False
