"""Hosts that share an underlay: network namespaces on one bridge, in one more namespace."""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orlop.kernel.namespaces import Namespace, setns
from tests.integration.engines import processes_of

AGENT = Path(__file__).with_name("agent.py")
QUICK = ("0.2", "1.0", "2.0", "0.05", "0.5", "3.0")  # Timing: see engine/peers/links.py


class AgentError(Exception):
    """What an agent refused."""


def hold_namespace() -> "subprocess.Popen[bytes]":
    """Return a process in a new network namespace, which is gone with it."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    own = os.stat("/proc/self/ns/net").st_ino
    until(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino != own)
    return process


@contextlib.contextmanager
def inside(pid: int) -> Iterator[None]:
    """Be in the network namespace of *pid*: sockets made there stay there."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        setns(other, Namespace.NET)
        yield
    finally:
        setns(own, Namespace.NET)
        os.close(own)
        os.close(other)


def run(pid: int, *command: str, check: bool = True) -> str:
    """Run a command in the network namespace of *pid*."""
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", *command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def until(is_so: Callable[[], Any], within_s: float = 15) -> None:
    """Wait until it is so; how long it takes is not what is tested."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.02)


class Container:
    """A network namespace on the network."""

    def __init__(self, pid: int, addresses: list[str], mac: str) -> None:
        self.pid, self.mac = pid, mac
        self.addresses = [address.partition("/")[0] for address in addresses]

    @property
    def ipv4(self) -> str:
        return next(address for address in self.addresses if ":" not in address)

    @property
    def ipv6(self) -> str:
        return next(address for address in self.addresses if ":" in address)

    def says(self, other: "Container", kind: socket.SocketKind, address: str) -> bytes:
        """Send something to *address* of the other, and return what it gives back."""
        return exchange(self.pid, other.pid, kind, address)

    def hears(self, other: "Container", within_s: float = 15) -> None:
        """See to it that a UDP packet gets through to *other* within the time."""

        def got_through() -> bool:
            with contextlib.suppress(OSError):
                return self.says(other, socket.SOCK_DGRAM, other.ipv4) == b"echo: hello"
            return False

        until(got_through, within_s)


def exchange(here: int, there: int, kind: socket.SocketKind, address: str) -> bytes:
    """Send something from one namespace to an address of another, which echoes it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(there):
        server = socket.socket(family, kind)
    with inside(here):
        client = socket.socket(family, kind)
    with server, client:
        server.settimeout(3)
        client.settimeout(3)
        server.bind((address, 0))
        port = server.getsockname()[1]
        echo = threading.Thread(target=_echo, args=(server, kind))
        if kind == socket.SOCK_STREAM:
            server.listen()
        echo.start()
        try:
            client.connect((address, port))
            client.send(b"hello")
            return client.recv(100)
        finally:
            server.settimeout(0.01) if kind == socket.SOCK_DGRAM else None
            echo.join()


def _echo(server: socket.socket, kind: socket.SocketKind) -> None:
    with contextlib.suppress(OSError):
        if kind == socket.SOCK_STREAM:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(3)
                connection.sendall(b"echo: " + connection.recv(100))
        else:
            data, source = server.recvfrom(100)
            server.sendto(b"echo: " + data, source)


class Host:
    """A host: a namespace, and an agent in it."""

    def __init__(self, number: int, folder: Path, timing: tuple[str, ...]) -> None:
        self.number, self.folder, self.timing = number, folder, timing
        self.ipv4, self.ipv6 = f"10.99.0.{number}", f"fd99::{number}"
        self.holder = hold_namespace()
        self.containers: list[Container] = []
        self.agent: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        return self.holder.pid

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", sys.executable, str(AGENT)]
        with (self.folder / "stderr").open("ab") as errors:
            self.agent = subprocess.Popen(
                [*command, str(self.folder), *self.timing],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._line() == "ready"

    def do(self, verb: str, *arguments: Any) -> Any:
        """Have the agent do something; AgentError with its reason where it does not."""
        self.begin(verb, *arguments)
        return self.end()

    def begin(self, verb: str, *arguments: Any) -> None:
        assert self.agent is not None
        assert self.agent.stdin is not None
        self.agent.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self.agent.stdin.flush()

    def end(self) -> Any:
        answer = self._line()
        if "error" in answer:
            raise AgentError(answer["error"])
        return answer["is"]

    def _line(self) -> Any:
        assert self.agent is not None
        assert self.agent.stdout is not None
        ready, _, _ = select.select([self.agent.stdout], [], [], 30)
        line = self.agent.stdout.readline() if ready else ""
        assert line, f"the agent says nothing: {self.log()}"
        return json.loads(line)

    def log(self) -> str:
        return "".join(
            (self.folder / name).read_text()[-4000:]
            for name in ("log", "stderr")
            if (self.folder / name).exists()
        )

    def attach(self, name: str) -> Container:
        container = Container(**self.do("attach", name))
        self.containers.append(container)
        return container

    def kill(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        assert self.agent is not None
        for stream in (self.agent.stdin, self.agent.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def entries(self) -> str:
        """Return what bridge and tunnel know, as iproute2 tells it."""
        name = run(self.pid, "ip", "-br", "link", "show", "type", "vxlan").split()[0]
        bridge = name.replace("ov-", "or-")
        return run(self.pid, "bridge", "fdb", "show", "dev", name) + run(
            self.pid, "ip", "neigh", "show", "dev", bridge
        )

    def close(self) -> None:
        if self.agent is not None:
            self._close_pipes()
            try:
                self.agent.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in processes_of(self.folder / "record.json"):  # an agent may not have told of one
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.holder.kill()
        self.holder.wait()


class Underlay:
    """A switch with hosts on it; *mtu* is of every link."""

    def __init__(self, folder: Path, mtu: int = 1500) -> None:
        self.folder, self.mtu = folder, mtu
        self.switch = hold_namespace()
        self.hosts: list[Host] = []
        self.others: list[subprocess.Popen[bytes]] = []
        run(self.switch.pid, "ip", "link", "add", "br0", "mtu", str(mtu), "type", "bridge")
        run(self.switch.pid, "ip", "link", "set", "br0", "up")

    def add(self, *, timing: tuple[str, ...] = QUICK) -> Host:
        """Plug in one more host, its agent started."""
        number = len(self.hosts) + 1
        host = Host(number, self.folder / f"host{number}", timing)
        self.hosts.append(host)
        self.plug(host.pid, number)
        host.start()
        return host

    def plug(self, pid: int, number: int) -> None:
        port = f"port{number}"
        run(
            self.switch.pid, "ip", "link", "add", port, "mtu", str(self.mtu), "type", "veth",
            "peer", "eth0", "mtu", str(self.mtu), "netns", str(pid),
        )  # fmt: skip
        run(self.switch.pid, "ip", "link", "set", port, "master", "br0", "up")
        run(pid, "ip", "link", "set", "lo", "up")
        run(pid, "ip", "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
        run(pid, "ip", "addr", "add", f"fd99::{number}/64", "dev", "eth0", "nodad")
        run(pid, "ip", "link", "set", "eth0", "up")

    def stranger(self) -> int:
        """Plug in a host that runs nothing; return the pid of its namespace."""
        holder = hold_namespace()
        self.others.append(holder)
        self.plug(holder.pid, 100 + len(self.others))
        return holder.pid

    def cut(self, host: Host) -> None:
        """Cut a host off: nothing arrives, nobody is told."""
        run(self.switch.pid, "ip", "link", "set", f"port{host.number}", "nomaster")

    def heal(self, host: Host) -> None:
        run(self.switch.pid, "ip", "link", "set", f"port{host.number}", "master", "br0")

    def network(self, count: int, *, ipv6_underlay: bool = False, **options: str) -> list[Host]:
        """Return *count* hosts of one network, all connected with each other."""
        hosts = [self.add() for _ in range(count)]
        local = hosts[0].ipv6 if ipv6_underlay else hosts[0].ipv4
        hosts[0].do("found", ["10.20.0.0/24", "fd20::/64"], {"local": local, **options})
        token = hosts[0].do("token")
        for host in hosts[1:]:
            host.do("join", token)
        until(lambda: all(connected(host) == count for host in hosts))
        return hosts

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        for holder in (*self.others, self.switch):
            holder.kill()
            holder.wait()


def connected(host: Host) -> int:
    """Return how many members *host* is connected with, itself included."""
    return sum(status == "connected" for _, status, _ in host.do("members"))


class Capture:
    """Frames that pass an interface, from when it is made until they are asked for."""

    def __init__(self, pid: int, interface: str) -> None:
        with inside(pid):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._socket.bind((interface, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        fcntl.fcntl(self._socket, fcntl.F_SETFL, os.O_NONBLOCK)

    def frames(self) -> list[bytes]:
        """Return all since the last time."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._socket.recv(1 << 16))
        return found

    def tunnelled(self) -> list[bytes]:
        """Return the inner frames of those that are VXLAN packets."""
        return [inner for frame in self.frames() if (inner := _inner(frame)) is not None]

    def close(self) -> None:
        self._socket.close()


def _inner(frame: bytes) -> bytes | None:
    kind, offset = frame[12:14], 14
    if kind == b"\x08\x00" and frame[23] == 17:
        offset += (frame[14] & 15) * 4
    elif kind == b"\x86\xdd" and frame[20] == 17:
        offset += 40
    else:
        return None
    is_tunnel = int.from_bytes(frame[offset + 2 : offset + 4], "big") == 4789
    return frame[offset + 16 :] if is_tunnel else None
