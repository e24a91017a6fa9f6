"""Pseudo-terminals: ioctls on the master. ioctl_tty(2), pty(7)."""

import fcntl
import os
import struct

# <asm-generic/ioctls.h>
_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x5414
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430


def unlock(master: int) -> None:
    """Unlock the other end of *master*, so that it can be opened. TIOCSPTLCK."""
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))


def open_peer(master: int) -> int:
    """Open the other end by descriptor: in the master's own devpts. TIOCGPTPEER, Linux 4.13."""
    return fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def number(master: int) -> int:
    """Return N of /dev/pts/N. TIOCGPTN."""
    answer = fcntl.ioctl(master, _TIOCGPTN, bytes(4))
    return int(struct.unpack("I", answer)[0])


def set_size(fd: int, *, height: int, width: int) -> None:
    """Set the size in characters; the foreground processes get SIGWINCH. TIOCSWINSZ."""
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))


def make_controlling(fd: int) -> None:
    """Make the terminal ours; we must lead a session without one. TIOCSCTTY."""
    fcntl.ioctl(fd, _TIOCSCTTY, 0)


def keep_newlines(fd: int) -> None:
    """Add no carriage returns to output on the terminal. ONLCR, termios(3)."""
    import termios  # only processes that serve a terminal need it

    settings = termios.tcgetattr(fd)
    settings[1] &= ~termios.ONLCR
    termios.tcsetattr(fd, termios.TCSANOW, settings)
