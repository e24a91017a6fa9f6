"""A container's output on its way to a log service, by a process that may block."""

import os
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence

from orlop.kernel.process import pidfd_open
from orlop.logdrivers.wire import HEAD, STREAMS, Delivery
from orlop.shim.attachment import LOW
from orlop.shim.helper import close_others
from orlop.shim.loop import WRITE, Loop

_PAUSE_S = 0.5  # before the successor of a process that died
_LAST_S = 10.0  # that a service may take for the last messages


class Courier:
    """Starts the process, feeds it, and puts another in the place of one that dies.

    Output that is read and not delivered waits in a queue. Where the delivery has a
    *buffer*, what is more than that is lost; else the container has to wait: its pump
    looks at *size*.
    """

    def __init__(self, loop: Loop, delivery: Delivery) -> None:
        self.size = 0  # bytes queued
        self.on_room: Callable[[], None] | None = None  # called when little is queued again
        self.waits = not delivery["buffer"]  # whether the container waits for the service
        self._loop = loop
        self._delivery = delivery
        self._queue: deque[bytes] = deque()
        self._lost = 0
        self._ending = False
        self._socket: socket.socket | None = None
        self._pid = 0
        self._begin()

    def append(self, pieces: Sequence[bytes], stream: str, time_ns: int) -> None:
        """Queue *pieces*."""
        head = HEAD.pack(STREAMS.index(stream), time_ns)
        for piece in pieces:
            if not self.waits and self.size + len(piece) > self._delivery["buffer"]:
                self._lost += 1
                continue
            self._queue.append(head + piece)
            self.size += len(head) + len(piece)
        self._flush()

    def close(self) -> None:
        """Let the process send what is queued, for a while, and end."""
        self._ending = True
        if self._lost:
            self._say(f"{self._lost} blocks of output were lost: the service was too slow")
        self._loop.later(_LAST_S, self._kill)
        self._flush()

    def _begin(self) -> None:
        """Start the process; without one the queue fills."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        with theirs:
            try:
                self._pid = os.fork()
            except OSError as error:
                ours.close()
                self._say(f"cannot start its process: {error.strerror}")
                self._loop.later(_PAUSE_S, self._again)
                return
            if self._pid == 0:
                _deliver(theirs, self._delivery, parent)
        ours.settimeout(0)
        self._socket = ours
        pidfd = pidfd_open(self._pid)
        self._loop.watch(pidfd, lambda _events: self._died(pidfd))
        self._flush()

    def _again(self) -> None:
        if not self._ending or self._queue:
            self._begin()

    def _died(self, pidfd: int) -> None:
        self._loop.forget(pidfd)
        os.close(pidfd)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._pid = 0
        self._hang_up()
        if self._ending and (status == 0 or not self._queue):
            return
        self._say(f"its process ended with {status}; what it had is lost")
        self._loop.later(_PAUSE_S, self._again)

    def _kill(self) -> None:
        """The service had its time."""
        self._queue.clear()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)

    def _flush(self, _events: int = 0) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            while self._queue:
                sock.send(self._queue[0])
                self.size -= len(self._queue.popleft())
        except BlockingIOError:
            self._loop.watch(sock.fileno(), self._flush, events=WRITE)
            self._tell_room()
            return
        except OSError:  # it has died, which its pidfd tells, too
            self._hang_up()
            return
        self._loop.forget(sock.fileno())
        if self._ending:
            self._hang_up()
        self._tell_room()

    def _tell_room(self) -> None:
        if self.size < LOW and self.on_room is not None:
            self.on_room()

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _say(self, text: str) -> None:
        about, driver = self._delivery["about"], self._delivery["driver"]
        print(f"orlop: log of {about['name']} to {driver}: {text}", file=sys.stderr, flush=True)


def _deliver(sock: socket.socket, delivery: Delivery, parent: int) -> None:
    """Be the process."""
    status = 1
    try:
        close_others({2, sock.fileno()})
        from orlop.logdrivers.serve import serve  # the pump needs none of it

        serve(sock, delivery, parent)
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
