"""A host, its neighbour and containers, each a network namespace; packets go by real veths.

    neighbour --- eth0 host --- bridge "one"  --- containers a, b
    10.9.0.2      10.9.0.1  \\-- bridge "two"  --- container c
                             \\- bridge "deep" --- containers d, e   (for an internal network)

The neighbour has routes to the containers' addresses by the host, as one on the same
link can always have. A namespace is a descriptor: with it closed, all in it is gone.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from orlop.kernel.namespaces import Namespace, setns, unshare

HOST = {4: "10.9.0.1", 6: "fd09::1"}
HOST_OTHER = {4: "10.9.0.11", 6: "fd09::11"}
NEIGHBOUR = {4: "10.9.0.2", 6: "fd09::2"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
ANY = {4: "0.0.0.0", 6: "::"}
NETWORKS = {"one": 1, "two": 2, "deep": 3}
CONTAINERS = {"a": ("one", 2), "b": ("one", 3), "c": ("two", 2), "d": ("deep", 2), "e": ("deep", 3)}
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
PATIENCE_S = 3.0
SILENCE_S = 0.4  # how long a packet that must not come is waited for


def address(container: str, version: int) -> str:
    network, number = CONTAINERS[container]
    return subnet_address(network, version, number)


def gateway(network: str, version: int) -> str:
    return subnet_address(network, version, 1)


def subnet_address(network: str, version: int, number: int) -> str:
    part = NETWORKS[network]
    return f"172.30.{part}.{number}" if version == 4 else f"fd30:{part}::{number}"


def subnets(network: str) -> tuple[str, str]:
    part = NETWORKS[network]
    return f"172.30.{part}.0/24", f"fd30:{part}::/64"


class Place:
    """A network namespace; `with place:` is inside it, for this thread."""

    def __init__(self) -> None:
        self._outside: list[int] = []
        before = _here()
        try:
            unshare(Namespace.NET)
            self.fd = _here()
            for which in ("all", "default"):  # link-local addresses are there at once
                Path(f"/proc/sys/net/ipv6/conf/{which}/accept_dad").write_text("0")
            run("ip link set lo up")
        finally:
            setns(before, Namespace.NET)
            os.close(before)

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def __enter__(self) -> "Place":
        self._outside.append(_here())
        setns(self.fd, Namespace.NET)
        return self

    def __exit__(self, *_: object) -> None:
        before = self._outside.pop()
        setns(before, Namespace.NET)
        os.close(before)

    def run(self, *commands: str) -> str:
        with self:
            return "".join(run(command) for command in commands)

    def sysctl(self, name: str, value: str | None = None) -> str:
        path = Path("/proc/sys/net", name)
        with self:
            if value is not None:
                path.write_text(value)
            return path.read_text().strip()

    def close(self) -> None:
        os.close(self.fd)


class Lab:
    """All places, with devices and addresses, and no rule anywhere."""

    def __init__(self) -> None:
        self.host = Place()
        self.neighbour = Place()
        self.containers = {name: Place() for name in CONTAINERS}
        self._connect_neighbour()
        for network in NETWORKS:
            self.make_bridge(network)
        for name in CONTAINERS:
            self._connect(name)

    def close(self) -> None:
        for place in (self.host, self.neighbour, *self.containers.values()):
            place.close()

    def make_bridge(self, network: str) -> None:
        self.host.run(
            f"ip link add {network} type bridge",
            f"ip addr add {gateway(network, 4)}/24 dev {network}",
            f"ip addr add {gateway(network, 6)}/64 dev {network} nodad",
            f"ip link set {network} up",
        )

    def place(self, name: str) -> Place:
        places = {"host": self.host, "neighbour": self.neighbour, **self.containers}
        return places[name]

    def _connect_neighbour(self) -> None:
        self.host.run(
            f"ip link add eth0 type veth peer name eth0 netns {self.neighbour.path}",
            *_configure("eth0", f"{HOST[4]}/24", f"{HOST[6]}/64"),
            *_configure("eth0", f"{HOST_OTHER[4]}/24", f"{HOST_OTHER[6]}/64"),
        )
        self.neighbour.run(*_configure("eth0", f"{NEIGHBOUR[4]}/24", f"{NEIGHBOUR[6]}/64"))
        for network in NETWORKS:
            for version, subnet in zip((4, 6), subnets(network), strict=True):
                self.neighbour.run(f"ip -{version} route add {subnet} via {HOST[version]}")

    def _connect(self, name: str) -> None:
        network, _ = CONTAINERS[name]
        place = self.containers[name]
        self.host.run(
            f"ip link add ve-{name} type veth peer name eth0 netns {place.path}",
            f"ip link set ve-{name} master {network} up",
        )
        place.run(*_configure("eth0", f"{address(name, 4)}/24", f"{address(name, 6)}/64"))
        for version in (4, 6):
            place.run(f"ip -{version} route add default via {gateway(network, version)}")


def join(host: Place, device: str, other: Place, *, part: int) -> dict[int, str]:
    """Connect *other* to the host by *device*; return the addresses it has there."""
    host.run(
        f"ip link add {device} type veth peer name eth0 netns {other.path}",
        *_configure(device, f"10.9.{part}.1/24", f"fd09:{part}::1/64"),
    )
    other.run(
        *_configure("eth0", f"10.9.{part}.2/24", f"fd09:{part}::2/64"),
        f"ip -4 route add default via 10.9.{part}.1",
        f"ip -6 route add default via fd09:{part}::1",
    )
    return {4: f"10.9.{part}.2", 6: f"fd09:{part}::2"}


def _configure(device: str, *addresses: str) -> list[str]:
    return [
        *(f"ip addr add {one} dev {device}{' nodad' if ':' in one else ''}" for one in addresses),
        f"ip link set {device} up",
    ]


def _here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def run(command: str | Sequence[str], stdin: str = "") -> str:
    words = command.split() if isinstance(command, str) else list(command)
    result = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def make_socket(protocol: str, version: int) -> socket.socket:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    one = socket.socket(family, KINDS[protocol])
    one.settimeout(PATIENCE_S)
    return one


@contextlib.contextmanager
def listening(
    place: Place, protocol: str, version: int, port: int, address: str = ""
) -> Iterator[socket.socket]:
    """A server in *place* on every address of its own, or on one, from which UDP then answers."""
    with place, make_socket(protocol, version) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((address or ANY[version], port))
        if protocol == "tcp":
            server.listen()
        yield server


def blocked(server: socket.socket, client: Place, protocol: str, target: tuple[str, int]) -> bool:
    """Return whether nothing comes to *server* of what *client* sends to *target*, or no answer."""
    return source_seen(server, client, protocol, target, SILENCE_S) is None


def source_seen(
    server: socket.socket,
    client: Place,
    protocol: str,
    target: tuple[str, int],
    patience_s: float = PATIENCE_S,
) -> str | None:
    """Send from *client* to *target*: which source address *server* saw, None for nothing.

    What comes has to be answered, and the answer to arrive.
    """
    version = 6 if ":" in target[0] else 4
    with client, make_socket(protocol, version) as sender:
        sender.settimeout(patience_s)
        try:
            sender.connect(target)
            sender.send(b"ping")
            if protocol == "tcp":
                answerer, peer = server.accept()
            else:
                answerer, peer = server, None
            server.settimeout(patience_s)
            with contextlib.ExitStack() as stack:
                if protocol == "tcp":
                    stack.enter_context(answerer)
                    assert answerer.recv(4) == b"ping"
                    answerer.send(b"pong")
                else:
                    _, peer = server.recvfrom(4)
                    server.sendto(b"pong", peer)
                assert sender.recv(4) == b"pong"
        except OSError:  # refused, or silence
            return None
        assert peer is not None
        return str(peer[0])
