"""Sandboxes on networks, started by the quick way or not at all; what runs in them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from orlop.client.address import settings
from orlop.client.direct import Connection, connections
from orlop.sandbox.options import Options

LONG_S = 60.0
#: The number of the interface's other end: no two that were ever made have the same.
WHO_AM_I = ("cat", "/sys/class/net/eth0/iflink")
STAYS = ("sh", "-c", "cat /sys/class/net/eth0/iflink; exec sleep 600")
#: Tells on port 7000, TCP and UDP, who asks; the stream's end is the client's.
SERVER = """
import selectors, socket
selector = selectors.DefaultSelector()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    one = socket.socket(socket.AF_INET, kind)
    one.bind(("0.0.0.0", 7000))
    if kind == socket.SOCK_STREAM:
        one.listen()
    selector.register(one, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj.type == socket.SOCK_DGRAM:
            data, peer = key.fileobj.recvfrom(2000)
            key.fileobj.sendto(peer[0].encode(), peer)
        else:
            client, peer = key.fileobj.accept()
            client.recv(1)
            client.sendall(peer[0].encode())
            client.close()
"""
ASK = """
import socket, sys
def ask(kind, host):
    try:
        with socket.socket(socket.AF_INET, kind) as one:
            one.settimeout(20.0)
            one.connect((host, int(sys.argv[2])))
            one.send(b"x")
            return one.recv(2000).decode()
    except OSError as error:
        return f"{host}: {error.strerror or error}"
print(ask(socket.SOCK_STREAM, sys.argv[1]), ask(socket.SOCK_DGRAM, sys.argv[1]))
"""


class Sandbox:
    """One that runs; *stdout* is ours to read."""

    def __init__(self, connection: Connection, made: str, stdout: int) -> None:
        self.id = made
        self._connection = connection
        self._stdout = stdout

    def line(self) -> str:
        """Return the next line of what it prints."""
        data = b""
        while not data.endswith(b"\n") and (more := os.read(self._stdout, 1)):
            data += more
        return data.decode().strip()

    def end(self) -> str:
        """Wait for its end and return what it has printed."""
        status = self._connection.exit_of(self.id)["status"]
        data = b"".join(iter(lambda: os.read(self._stdout, 65536), b""))
        assert status == 0, data
        return data.decode().strip()

    def close(self) -> None:
        self._connection.request({"op": "close", "id": self.id})


class Quick:
    """Starts them; those that run are closed at the end."""

    def __init__(self, url: str) -> None:
        self._connections = connections(settings(host=url))
        self._open: list[Connection] = []
        self._pipes: list[int] = []

    def __enter__(self) -> "Quick":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open:
            connection.close()
        for pipe in self._pipes:
            os.close(pipe)

    def start(
        self,
        *command: str,
        network: str = "bridge",
        neighbours: bool | None = None,
        stdout: int = -1,
        **more: Any,
    ) -> Sandbox:
        """Start one that runs *command*; *more* is of the body, and of its HostConfig."""
        options = Options(image="host", network=network, neighbours=neighbours)
        body = options.body() | {"Entrypoint": [], "Cmd": []}
        host_config = more.pop("HostConfig", {})
        body = {**body, **more, "HostConfig": {**body["HostConfig"], **host_config}}
        connection = self._connections.take()
        self._open.append(connection)
        null, _ = os.pipe()
        reader, writer = os.pipe()
        self._pipes += [null, _, reader]
        try:
            streams = [null, stdout if stdout >= 0 else writer, writer]
            message = {"op": "start", "options": body, "args": command}
            made = connection.request(message, streams)["id"]
        finally:
            os.close(writer)
        return Sandbox(connection, made, reader)

    def run(self, *command: str, **more: Any) -> str:
        """Start one, wait for its end, and return what it has printed."""
        return self.start(*command, **more).end()

    def serve(self, **more: Any) -> Sandbox:
        """Start one with SERVER, and return it once it listens."""
        sandbox = self.start("python3", "-c", SERVER, **more)
        assert sandbox.line() == "ready"
        return sandbox


def ask(host: str, port: int = 7000) -> str:
    """Do what ASK does, from here."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, host, str(port)],
        capture_output=True,
        text=True,
        check=True,
        timeout=LONG_S,
    )
    return done.stdout.strip()


def is_there(number: str) -> bool:
    """Whether the host's end of what told this number (WHO_AM_I) is there."""
    try:
        socket.if_indextoname(int(number))
    except OSError:
        return False
    return True


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.05)
