"""Process 1 of a virtual machine: sets the system up, then serves the host."""

import os
import select
import signal

from orlop.errors import OrlopError
from orlop.guest import identity, system
from orlop.guest.names import Names
from orlop.guest.processes import Processes
from orlop.model import guestwire as wire
from orlop.model.guestwire import Decoder, Frame

_CHUNK = 64 * 1024


def main() -> None:
    """Serve until the host closes the channel or breaks the protocol; ends the machine then."""
    try:
        system.set_up()
        agent = Agent(system.open_channel())
        agent.send(Frame(wire.HELLO))
        agent.serve()
    except BaseException as error:
        system.complain(f"agent: {type(error).__name__}: {error}")
    finally:
        system.power_off()


class Agent:
    """One conversation with the host."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._decoder = Decoder()
        self._names = Names(self.send)
        self._processes = Processes(self.send, self._names.open)

    def serve(self) -> None:
        """Answer requests, one after the other; returns when the host has gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        wakeup, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        while True:
            poll = select.poll()
            poll.register(self._channel, select.POLLIN)
            poll.register(wakeup, select.POLLIN)
            if self._names.fileno() >= 0:
                poll.register(self._names.fileno(), select.POLLIN)
            for fd, events in self._processes.interests():
                poll.register(fd, events)
            for fd, _ in poll.poll():
                if fd == self._channel:
                    data = os.read(fd, _CHUNK)
                    if not data:
                        return
                    for frame in self._decoder.feed(data):
                        self._answer(frame)
                elif fd == self._names.fileno():
                    self._names.take()
                elif fd == wakeup:
                    os.read(fd, _CHUNK)
                    self._processes.reap()
                else:
                    self._processes.move(fd)

    def send(self, frame: Frame) -> None:
        """Send *frame*; waits while the host does not read."""
        data = memoryview(frame.encode())
        while data:
            data = data[os.write(self._channel, data) :]

    def _answer(self, frame: Frame) -> None:
        try:
            if frame.kind == wire.IDENTIFY:
                identity.take(frame.payload)
                self.send(Frame(wire.DONE, frame.stream))
            elif frame.kind == wire.ANSWER:
                self._names.answer(frame)
            else:
                self._processes.answer(frame)
        except (OSError, OrlopError, ValueError, KeyError, TypeError) as error:
            self.send(wire.failure(frame.stream, error))
