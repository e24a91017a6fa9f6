"""The process that sends one container's output to a log service.

It gets datagrams, each whole lines of output or a part of one, and blocks as its driver
does: the pump sees that its socket takes no more.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping

from orlop.kernel.process import set_name, set_parent_death_signal
from orlop.logdrivers.driver import Driver, Message, Part
from orlop.logdrivers.drivers import DRIVERS
from orlop.logdrivers.wire import HEAD, STREAMS, About, Delivery

_LONGEST = 64 << 10  # of a datagram
_LAST_S = 10  # to send what is left, once nothing comes any more
_AGAIN_S = 1.0  # between two attempts to connect


def serve(sock: socket.socket, delivery: Delivery, parent: int) -> None:
    """Deliver what comes over *sock*, until its other end is closed."""
    set_name("orlop-log")
    signal.signal(signal.SIGUSR1, lambda *_: signal.alarm(_LAST_S))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    set_parent_death_signal(signal.SIGUSR1)
    if os.getppid() != parent:
        signal.alarm(_LAST_S)
    about = delivery["about"]
    driver = DRIVERS[delivery["driver"]](delivery["options"], about)
    sender = Sender(driver, f"log of container {about['name']} to {delivery['driver']}")
    lines = Lines()
    while datagram := sock.recv(_LONGEST):
        for message in lines.feed(datagram):
            sender.send(message)
    sender.close()


class Lines:
    """Takes output apart into messages, and knows which are parts of a longer line."""

    def __init__(self) -> None:
        self._open: dict[str, Part] = {}  # the last part, of a line without its end

    def feed(self, datagram: bytes) -> Iterator[Message]:
        number, time_ns = HEAD.unpack_from(datagram)
        stream = STREAMS[number]
        *whole, rest = datagram[HEAD.size :].split(b"\n")
        for line in whole:
            yield Message(stream, time_ns, line, self._next_part(stream, last=True))
        if rest:
            yield Message(stream, time_ns, rest, self._next_part(stream, last=False))

    def _next_part(self, stream: str, *, last: bool) -> Part | None:
        before = self._open.pop(stream, None)
        if before is None:
            if last:
                return None
            before = Part(os.urandom(32).hex(), 0, last=False)
        part = Part(before.id, before.ordinal + 1, last)
        if not last:
            self._open[stream] = part
        return part


class Sender:
    """Sends, connects again when a connection is lost, and says what was lost."""

    def __init__(self, driver: Driver, what: str) -> None:
        self._driver = driver
        self._what = what
        self._lost = 0
        self._next_try = 0.0

    def send(self, message: Message) -> None:
        """Send *message*, or count it as lost."""
        if self._lost and time.monotonic() < self._next_try:
            self._lost += 1
            return
        error = self._try(message)
        if error is not None:
            self._driver.close()
            error = self._try(message)  # by a new connection
        if error is not None:
            self._driver.close()
            self._next_try = time.monotonic() + _AGAIN_S
            if not self._lost:
                _say(f"{self._what}: {error.strerror or error}; messages are lost")
            self._lost += 1
        elif self._lost:
            self._tell()

    def close(self) -> None:
        if self._lost:
            self._tell()
        self._driver.close()

    def _try(self, message: Message) -> OSError | None:
        try:
            self._driver.send(message)
        except OSError as error:
            return error
        return None

    def _tell(self) -> None:
        _say(f"{self._what}: {self._lost} messages were lost")
        self._lost = 0


def probe(driver: str, options: Mapping[str, str], about: About) -> None:
    """Connect to the service, and let it go again. OSError where nobody answers."""
    made = DRIVERS[driver](options, about)
    made.open()
    made.close()


def _say(text: str) -> None:
    print(f"orlop: {text}", file=sys.stderr, flush=True)
