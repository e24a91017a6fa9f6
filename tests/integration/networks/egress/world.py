"""What is outside of this host, in a namespace of its own, and who tries to reach it."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from orlop.engine.engine import Engine
from orlop.model.container import Container
from tests.integration.engine.harness import shell
from tests.integration.names.scene import Upstream, new_namespace

ADDRESS, ADDRESS6 = "203.0.113.9", "2001:db8:9::9"
OTHER, OTHER6 = "203.0.113.10", "2001:db8:9::10"
NAMESERVER = "203.0.113.53"
HERE: list[str] = []  # what a command begins with that is to run on the host
#: Names of the world, on the wire.
KNOWN = {
    b"\x05plain\x07example\x00": [ADDRESS, ADDRESS6],
    b"\x05other\x07example\x00": [OTHER],
    b"\x01a\x04deep\x07example\x00": [OTHER],
    b"\x04deep\x07example\x00": [ADDRESS],
    b"\x04back\x07example\x00": [
        "127.0.0.1",
        "169.254.169.254",
        "10.1.0.1",
        "10.1.0.2",
        "203.0.113.1",
    ],
    b"\x04many\x07example\x00": [f"203.0.113.{number}" for number in range(100, 200)],
}
_FORWARDING = [
    Path("/proc/sys/net", name) for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
]
_SERVER = """
import selectors, socket, sys
selector = selectors.DefaultSelector()
for port in (7000, 7001):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET6, kind)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            one.listen(100)
        selector.register(one, selectors.EVENT_READ)
print("ready", flush=True)
held = []
while True:
    for key, _ in selector.select():
        one = key.fileobj
        if one in held:
            data = one.recv(100)
            one.sendall(data)
            if not data:
                selector.unregister(one)
                held.remove(one)
                one.close()
        elif one.type == socket.SOCK_DGRAM:
            data, peer = one.recvfrom(2000)
            one.sendto(data, peer)
        else:
            held.append(one.accept()[0])
            selector.register(held[-1], selectors.EVENT_READ)
"""
#: Prints what becomes of PROTOCOL/HOST/PORT: open, refused, unknown (a name), or lost.
CLIENT = """
import json, socket, sys

def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET

def tcp(host, port):
    with socket.create_connection((host, port), timeout=20) as one:
        one.sendall(b"x")
        return "open" if one.recv(1) == b"x" else "lost"

def udp(host, port):
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.connect(address)
        one.settimeout(1.5)
        for _ in range(14):  # what tells that it is refused may come once a second only
            one.send(b"x")
            try:
                return "open" if one.recv(1) == b"x" else "lost"
            except TimeoutError:
                continue
        return "lost"

def ask(text):
    protocol, host, port = text.split("/")
    try:
        return {"tcp": tcp, "udp": udp}[protocol](host, int(port))
    except socket.gaierror:
        return "unknown"
    except TimeoutError:
        return "lost"
    except OSError:
        return "refused"

print(json.dumps([ask(text) for text in sys.argv[1:]]))
"""


class World:
    """A namespace behind a router that is this host, with servers and names."""

    def __init__(self, stack: ExitStack) -> None:
        namespace = new_namespace()
        stack.callback(os.close, namespace)
        stack.enter_context(forwarding("1"))  # or the engine would, and guard what was there
        self.path = f"/proc/{os.getpid()}/fd/{namespace}"
        _run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", self.path)
        stack.callback(_run, "ip", "link", "delete", "up0")
        _configure([], "up0", "203.0.113.1/24", "2001:db8:9::1/64")
        addresses = (
            f"{ADDRESS}/24",
            f"{OTHER}/24",
            f"{NAMESERVER}/24",
            f"{ADDRESS6}/64",
            f"{OTHER6}/64",
        )
        _configure(self.inside, "eth0", *addresses)
        for via in ("203.0.113.1", "2001:db8:9::1"):
            _run(*self.inside, "ip", "route", "add", "default", "via", via)
        stack.enter_context(serving(self.inside))
        self.names = Upstream(namespace, NAMESERVER, dict(KNOWN))
        stack.callback(self.names.close)

    @property
    def inside(self) -> list[str]:
        """What a command begins with that is to run there."""
        return ["nsenter", f"--net={self.path}"]


def _configure(where: list[str], interface: str, *addresses: str) -> None:
    _run(*where, "ip", "link", "set", interface, "up")
    for address in addresses:
        flags = ["nodad"] if ":" in address else []
        _run(*where, "ip", "address", "add", address, "dev", interface, *flags)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=30)


@contextmanager
def forwarding(value: str) -> Iterator[None]:
    """Have the host forward, or not."""
    before = {setting: setting.read_text() for setting in _FORWARDING}
    try:
        for setting in before:
            setting.write_text(value)
        yield
    finally:
        for setting, old in before.items():
            setting.write_text(old)


@contextmanager
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


@contextmanager
def serving(where: list[str]) -> Iterator[None]:
    """Have a server on ports 7000 and 7001 of a network namespace, TCP and UDP: an echo."""
    command = [*where, "python3", "-c", _SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.kill()


@contextmanager
def added(outside: World, *addresses: str) -> Iterator[None]:
    """Have hosts of a private network in the world, which this host has a way to."""
    for address in addresses:
        _run(*outside.inside, "ip", "address", "add", f"{address}/32", "dev", "eth0")
        _run("ip", "route", "add", f"{address}/32", "via", ADDRESS)
    yield  # the interfaces take them along


def inside(container: Container) -> list[str]:
    """Return what a command begins with that is to run in a container's network, with its files."""
    return ["nsenter", f"--target={container.pid}", "--net", "--mount"]


async def said(where: list[str], *words: str) -> str:
    """Run a program and return what it prints; the engine in this process goes on meanwhile."""
    done = await asyncio.to_thread(
        subprocess.run, [*where, *words], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout


async def tries(where: list[str], *wanted: str) -> list[str]:
    """Return what becomes of each "tcp/HOST/PORT"."""
    answers: list[str] = json.loads(await said(where, "python3", "-c", CLIENT, *wanted))
    return answers


def opened(name: str) -> dict[tuple[str, ...], int]:
    """Return what names have opened: bridge, source, destination and port; the seconds left."""
    tables = _said("list", "tables", "inet")
    table = next(one["table"]["name"] for one in tables if "-egress" in str(one.get("table")))
    elements = [
        one["elem"]
        for listed in _said("list", "set", "inet", table, name)
        for one in listed.get("set", {}).get("elem", ())
    ]
    return {tuple(map(str, one["val"]["concat"])): one["expires"] for one in elements}


def _said(*words: str) -> list[dict[str, Any]]:
    done = subprocess.run(["nft", "-j", *words], check=True, capture_output=True, timeout=60)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return found


async def box(
    engine: Engine, name: str, network: str, egress: tuple[str, ...] | None = None, **more: object
) -> Container:
    """Start a container that does nothing itself; *egress* as in its options."""
    options = shell("exec sleep 600", network=network, egress=egress, dns=(NAMESERVER,), **more)
    created = await engine.containers.create(options, name=name)
    await engine.containers.start(created.id)
    return engine.containers.get(created.id)


def bridges_filter(value: str) -> None:
    """Have what is switched by a bridge go through the rules of IP too, as docker does, or not."""
    for family in ("ip", "ip6"):
        setting = Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}tables")
        if setting.exists():
            setting.write_text(value)
