"""Network namespaces that stand for containers, a server of other names, and who asks."""

import asyncio
import ipaddress
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from orlop.engine.names.names import Names
from orlop.engine.names.upstreams import Upstreams
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.network.dns.message import (
    IN,
    RECORD,
    Code,
    Type,
    address_record,
    answer,
    read_query,
)

T = TypeVar("T")

_OWN = "/proc/thread-self/ns/net"
_CNAME = 5


def new_namespace() -> int:
    """Return the descriptor of a network namespace with nothing but its loopback, which is up."""
    made: list[int] = []

    def make() -> None:
        unshare(Namespace.NET)
        raise_loopback()
        made.append(os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def run_in(namespace: int, function: Callable[[], T]) -> T:
    """Run *function* in a thread that goes into the namespace and ends there."""

    def enter() -> T:
        setns(namespace, Namespace.NET)
        return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()


def command_in(namespace: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the namespace."""
    return subprocess.run(
        ["nsenter", f"--net=/proc/self/fd/{namespace}", *words],
        pass_fds=[namespace],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


class Engine:
    """The names' server alone, on an event loop in a thread of its own; its host is a namespace."""

    def __init__(self, host: int, resolv_conf: Path) -> None:
        self.host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._pool = ThreadPoolExecutor(1)
        self._thread.start()
        self.names: Names = self.call(self._make(resolv_conf))

    def _run(self) -> None:
        setns(self.host, Namespace.NET)
        self._loop.run_forever()

    async def _make(self, resolv_conf: Path) -> Names:
        return Names(self._inside, Upstreams(resolv_conf))

    async def _inside(self, namespace: int, function: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._pool, run_in, namespace, function)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def do(self, function: Callable[..., T], *arguments: object) -> T:
        """Call *function* on the loop."""

        async def call() -> T:
            return function(*arguments)

        return self.call(call())

    def close(self) -> None:
        self.do(self.names.close_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown()


class Upstream:
    """A server of the world's names: what *known* says, and no more; it remembers who asks.

    In the *namespace*, or in that of the test itself.
    """

    def __init__(self, namespace: int | None, address: str, known: dict[bytes, list[str]]) -> None:
        self.known = known
        self.code = Code.NOERROR
        self.silent = False
        self.ttl_s = 60
        self.aliases: dict[bytes, bytes] = {}  # names that lead to others, which are known
        self.lies = False  # answers with another id first
        self.asked: list[tuple[tuple[str, int], bytes]] = []  # by whom, what
        if namespace is None:
            self._udp, self._tcp = self._open(address)
        else:
            self._udp, self._tcp = run_in(namespace, lambda: self._open(address))
        self._threads = [
            threading.Thread(target=one, daemon=True) for one in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()

    def _open(self, address: str) -> tuple[socket.socket, socket.socket]:
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in (udp, tcp):
            one.bind((address, 53))
        tcp.listen()
        return udp, tcp

    def _serve_udp(self) -> None:
        with suppress(OSError):
            while True:
                message, address = self._udp.recvfrom(4096)
                if not message:  # shut down
                    return
                self.asked.append((address, message))
                if self.silent:
                    continue
                made = self._answer(message, stream=False)
                if self.lies:
                    false = answer(read_query(message), [address_record(bytes(4), 1)])
                    self._udp.sendto(bytes([false[0] ^ 1]) + false[1:], address)
                self._udp.sendto(made, address)

    def _serve_tcp(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._tcp.accept()
                with client, suppress(OSError, struct.error):
                    (size,) = struct.unpack("!H", client.recv(2, socket.MSG_WAITALL))
                    made = self._answer(client.recv(size, socket.MSG_WAITALL), stream=True)
                    client.sendall(struct.pack("!H", len(made)) + made)

    def _answer(self, message: bytes, *, stream: bool) -> bytes:
        query = read_query(message)
        size = 65535 if stream else query.udp_size
        chain, name = self._aliases(query.name)
        if name not in self.known or self.code != Code.NOERROR:
            return answer(query, [], code=self.code or Code.NXDOMAIN)
        addresses = [ipaddress.ip_address(text) for text in self.known[name]]
        wanted = 4 if query.type == Type.A else 6
        found = [a.packed for a in addresses if a.version == wanted]
        records = [address_record(packed, self.ttl_s) for packed in found]
        if chain:
            records = [*chain, *(name + record[2:] for record in records)]
        return answer(query, records, size=size)

    def _aliases(self, name: bytes) -> tuple[list[bytes], bytes]:
        """Return a CNAME record for each step from *name*, and the name at the end."""
        chain = []
        while to := self.aliases.get(name):
            chain.append(name + RECORD.pack(_CNAME, IN, self.ttl_s, len(to)) + to)
            name = to
        return chain, name

    def close(self) -> None:
        for one in (self._udp, self._tcp):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)


class Asker:
    """Somebody in a namespace who asks 127.0.0.11."""

    def __init__(self, namespace: int) -> None:
        self.namespace = namespace

    def dig(self, *words: str) -> list[str]:
        """Return what `dig +short` prints."""
        return sorted(self._dig("+short", *words).split("\n")) if words else []

    def status(self, *words: str) -> str:
        """Return the status and flags of dig's answer: "NOERROR qr rd ra"."""
        lines = self._dig("+noall", "+comments", *words).split("\n")
        status = next(line for line in lines if "status:" in line).split("status: ")[1]
        flags = next(line for line in lines if line.startswith(";; flags:"))
        return f"{status.split(',')[0]} {flags[10:].split(';')[0]}".strip()

    def _dig(self, *words: str) -> str:
        command = ["dig", "@127.0.0.11", "+time=6", "+tries=1", *words]
        done = command_in(self.namespace, *command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def socket(self, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """Return a socket that is connected to the server."""

        def make() -> socket.socket:
            made = socket.socket(type=kind)
            made.settimeout(10)
            made.connect(("127.0.0.11", 53))
            return made

        return run_in(self.namespace, make)


def wire(name: str, type_: int = Type.A, *, id_: int = 1) -> bytes:
    """Return a query."""
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".") if one)
    question = labels + b"\0" + struct.pack("!HH", type_, 1)
    return struct.pack("!6H", id_, 0x0100, 1, 0, 0, 0) + question
