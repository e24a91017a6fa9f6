"""Process 1 of a virtual machine's jail: starts QEMU and stands for the process in the guest.

Its streams, signals and exit status are that process's, so what starts, stops, logs and attaches
containers needs to know nothing of machines. More processes come in over a socket, each with the
descriptors of its streams: command.py.
"""

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from orlop.errors import OrlopError
from orlop.kernel.capabilities import capset
from orlop.microvm.forwarding import catch_signals, make_raw, terminal_size
from orlop.microvm.machine import Disks, Kind
from orlop.microvm.names import Names
from orlop.microvm.network import hand_over, make_tap
from orlop.microvm.relay import End, Ports, Relay
from orlop.microvm.template import Template
from orlop.model import guestwire as wire

SOCKET = "/run/commands"
#: Kills the container's process, not the machine: what it has written comes to its disk.
END = signal.SIGRTMAX
_MOST_REQUEST = 128 << 10
_STREAMS = Ports(0, 1, 2)


def main() -> None:
    """Run the machine that the file in argv describes; exit as the container's process does."""
    with open(sys.argv[1], "rb") as file:
        what = json.load(file)
    try:
        supervisor = Supervisor(what)
        supervisor.serve()
        end = supervisor.end
    except OrlopError as error:
        end = End(error.exit_code, str(error))
    if end.reason:
        os.write(2, f"orlop: {end.reason}\n".encode())
    os._exit(end.status)  # the kernel ends QEMU with the pid namespace


class Supervisor:
    """One machine, its container, and the commands that run in it."""

    def __init__(self, what: Mapping[str, Any]) -> None:
        self.end = End(0)
        self._over = False
        self._wakeup = catch_signals()
        template = Template(Kind(*what["kind"]), what["template"])
        disks = Disks(*what["disks"])
        tap = make_tap()
        card = hand_over()
        capset(0, 0, 0)  # from here on there is a guest to fear
        self._machine = template.clone(what["hostname"], disks=disks, tap=tap)
        self._names = Names()
        self._relay = Relay(self._machine.channel, on_question=self._names.ask)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(SOCKET)
        self._listener.listen(64)
        self._clients: dict[int, Client] = {}
        with open(what["request"], "rb") as file:
            request = json.load(file) | {"card": card and card._asdict()}
        make_raw(0)
        self._first = self._relay.add(
            wire.START, json.dumps(request).encode(), _STREAMS, self._ended
        )

    def serve(self) -> None:
        """Relay until the container's process has ended. Raises OrlopError if the machine fails."""
        while not self._over:
            poll = select.poll()
            for fd, events in self._interests().items():
                poll.register(fd, events)
            for fd, events in poll.poll():
                if fd == self._wakeup:
                    self._forward_signals()
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd == self._names.fileno():
                    if answer := self._names.answer():
                        self._relay.answer(*answer)
                elif fd in self._clients:
                    self._hear(self._clients[fd])
                else:
                    self._relay.move(fd, events)

    def _interests(self) -> dict[int, int]:
        """Return what to wait for, by descriptors."""
        wanted = {self._wakeup: select.POLLIN, self._names.fileno(): select.POLLIN}
        if self._relay.has_started(self._first):  # until then there is nothing to join
            wanted[self._listener.fileno()] = select.POLLIN
        wanted |= dict.fromkeys(self._clients, select.POLLIN)
        for fd, events in self._relay.interests():
            wanted[fd] = wanted.get(fd, 0) | events
        return wanted

    def _ended(self, end: End) -> None:
        self._over, self.end = True, end

    def _forward_signals(self) -> None:
        for number in os.read(self._wakeup, 4096):
            if number == END:
                self._relay.signal(self._first, signal.SIGKILL)
            elif number == signal.SIGWINCH:
                height, width = terminal_size(0)
                self._relay.resize(self._first, height, width)
            else:
                self._relay.signal(self._first, number)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        self._clients[sock.fileno()] = Client(sock, self._relay)

    def _hear(self, client: "Client") -> None:
        if not client.hear():
            del self._clients[client.fileno()]
            client.close()


class Client:
    """A command: its first message is the request, with its streams; the others are for it."""

    def __init__(self, sock: socket.socket, relay: Relay) -> None:
        self._sock = sock
        self._relay = relay
        self._stream: int | None = None
        self._ports: Ports | None = None
        self._is_over = False

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def hear(self) -> bool:
        """Do what a message says; False at the end of the connection."""
        data, fds, _, _ = socket.recv_fds(self._sock, _MOST_REQUEST, len(_STREAMS))
        if not data or (self._stream is None and len(fds) != len(_STREAMS)):
            for fd in fds:
                os.close(fd)
            return False
        if self._stream is None:
            self._ports = Ports(*fds)
            self._stream = self._relay.add(wire.EXEC, data, self._ports, self._ended)
            return True
        word, *numbers = data.split()
        if word == b"signal":
            self._relay.signal(self._stream, int(numbers[0]))
        elif word == b"resize":
            self._relay.resize(self._stream, int(numbers[0]), int(numbers[1]))
        return True

    def close(self) -> None:
        """Let go of it; its process is killed if it runs."""
        self._sock.close()
        if self._stream is not None and not self._is_over:
            self._relay.signal(self._stream, signal.SIGKILL)

    def _ended(self, end: End) -> None:
        self._is_over = True
        for fd in self._ports or ():
            os.close(fd)
        with suppress(OSError):
            self._sock.send(f"{end.status} {end.reason}".encode())
