"""What a process of the host does that stands for one in a virtual machine."""

import array
import fcntl
import os
import signal
import termios
from contextlib import suppress

_NOT_FORWARDED = frozenset((signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE))


def catch_signals() -> int:
    """Return a pipe that gives the number, as a byte, of each signal that is to be forwarded."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in signal.valid_signals() - _NOT_FORWARDED:
        with suppress(OSError, ValueError):
            signal.signal(number, lambda *_: None)
    return read_end


def make_raw(fd: int) -> None:
    """Leave all that a terminal does with bytes to the guest's; what is none is left as it is."""
    if not os.isatty(fd):
        return
    modes = termios.tcgetattr(fd)
    modes[0] = modes[1] = modes[3] = 0
    modes[2] = modes[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, modes)


def terminal_size(fd: int) -> tuple[int, int]:
    """Return height and width of a terminal; two zeros if it is none."""
    size = array.array("H", [0, 0, 0, 0])
    with suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCGWINSZ, size)
    return size[0], size[1]
