"""A command in a virtual machine's jail that stands for a process in the guest.

It hands its streams to the supervisor, forwards signals and the size of its terminal, and exits as
the process does.
"""

import os
import select
import signal
import socket
import sys
import time

from orlop.microvm.forwarding import catch_signals, make_raw, terminal_size
from orlop.microvm.supervisor import SOCKET

_FAILED = 125
_MOST_ANSWER = 4096
_PATIENCE_S = 60.0
_PAUSE_S = 0.02


def main() -> None:
    """Run the process that argv describes, in JSON; its end is ours."""
    wakeup = catch_signals()
    supervisor = _connect()
    make_raw(0)
    socket.send_fds(supervisor, [sys.argv[1].encode()], (0, 1, 2))
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    poll.register(supervisor, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == wakeup:
                for number in os.read(wakeup, 4096):
                    supervisor.send(_message(number))
            else:
                _exit(supervisor.recv(_MOST_ANSWER))


def _connect() -> socket.socket:
    """Connect to the supervisor, which listens once the machine is there; or say why not."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            supervisor.connect(SOCKET)
        except (FileNotFoundError, ConnectionRefusedError):
            supervisor.close()
            if time.monotonic() > deadline:
                sys.stderr.write("orlop: the virtual machine does not come up\n")
                sys.exit(_FAILED)
            time.sleep(_PAUSE_S)
        else:
            return supervisor


def _message(number: int) -> bytes:
    if number == signal.SIGWINCH:
        height, width = terminal_size(0)
        return f"resize {height} {width}".encode()
    return f"signal {number}".encode()


def _exit(answer: bytes) -> None:
    status, _, reason = answer.decode().partition(" ")
    if reason:
        os.write(2, f"orlop: {reason}\n".encode())
    os._exit(int(status or _FAILED))
