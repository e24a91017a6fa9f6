"""A host of its own for a test, and containers in it: network namespaces and nothing more.

What is there is asked of `ip` and `tc`, and whether packets pass of sockets.
"""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.model.network import Endpoint, Network, Route, Subnet
from orlop.network.namespace import Home

ENGINE = "0123abcd"
PATIENCE_S = 10.0
DENIAL_S = 0.5  # how long is waited for what must not come
Json = Any


class World:
    """A host: this thread is in its namespace, and commands run from here are."""

    def __init__(self) -> None:
        self.home = Home()
        self._namespaces: list[int] = []

    def close(self) -> None:
        self.home.close()
        for namespace in self._namespaces:
            os.close(namespace)

    def container(self) -> int:
        """A container's namespace, until the test ends or end() is called."""
        made = self.home.make()
        self._namespaces.append(made)
        return made

    def end(self, namespace: int) -> None:
        self._namespaces.remove(namespace)
        os.close(namespace)

    def run(self, *command: str, inside: int | None = None) -> str:
        context = contextlib.nullcontext() if inside is None else self.home.inside(inside)
        with context:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, (command, result.stderr)
        return result.stdout

    def ip(self, *words: str, inside: int | None = None) -> Json:
        """What `ip -j` says."""
        return json.loads(self.run("ip", "-j", "-d", *words, inside=inside) or "[]")

    def link(self, name: str, inside: int | None = None) -> Json:
        """What `ip` says of one interface with its addresses."""
        return self.ip("addr", "show", "dev", name, inside=inside)[0]

    def setting(self, path: str, inside: int | None = None) -> str:
        return self.run("cat", f"/proc/sys/net/{path}", inside=inside).strip()

    def state(self, *namespaces: int) -> list[Json]:
        """All that should be as before where nothing was done, here and in *namespaces*."""
        return [_state(self, where) for where in (None, *namespaces)]

    def names(self) -> set[str]:
        return {link["ifname"] for link in self.ip("link")}

    def peers(self) -> int:
        """How many other namespaces an interface here has its other end in."""
        return len(self.run("ip", "netns", "list-id").splitlines())

    def socket(self, inside: int | None, family: int, kind: int) -> socket.socket:
        context = contextlib.nullcontext() if inside is None else self.home.inside(inside)
        with context:
            made = socket.socket(family, kind)
        made.settimeout(PATIENCE_S)
        return made

    def tcp(self, client: int | None, server: int | None, address: str) -> bool:
        """Whether the client has an answer from the server, which listens at *address*."""
        return self._talk(client, server, address, socket.SOCK_STREAM)

    def udp(self, client: int | None, server: int | None, address: str) -> bool:
        return self._talk(client, server, address, socket.SOCK_DGRAM)

    def _talk(self, client: int | None, server: int | None, address: str, kind: int) -> bool:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.socket(server, family, kind) as there, self.socket(client, family, kind) as here:
            there.bind((address, 0))
            if kind == socket.SOCK_STREAM:
                there.listen()
            here.settimeout(DENIAL_S * 4)
            try:
                here.connect(there.getsockname()[:2])
                if kind == socket.SOCK_STREAM:
                    answering, _ = there.accept()
                    with answering:
                        answering.sendall(b"answer")
                else:
                    here.send(b"question")
                    there.settimeout(DENIAL_S * 4)
                    _, asker = there.recvfrom(100)
                    there.sendto(b"answer", asker)
                return here.recv(100) == b"answer"
            except OSError:
                return False


@contextlib.contextmanager
def fresh_world() -> Iterator[World]:
    """Put this thread into a network namespace of its own, and back."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(Namespace.NET)
        raise_loopback()
        world = World()
        try:
            yield world
        finally:
            world.close()
    finally:
        setns(before, Namespace.NET)
        os.close(before)


def network(number: int = 5, *, ipv6: bool = True, **more: Any) -> Network:
    """Network 10.5.0.0/16, and fd00:5::/64."""
    subnets = [Subnet(subnet=f"10.{number}.0.0/16", gateway=f"10.{number}.0.1")]
    if ipv6:
        subnets.append(Subnet(subnet=f"fd00:{number}::/64", gateway=f"fd00:{number}::1"))
    made = {"id": f"{number:02x}" * 32, "name": f"net{number}", "ipv6": ipv6}
    return Network(**{**made, "subnets": tuple(subnets), **more})


def endpoint(on: Network, number: int, **more: Any) -> Endpoint:
    """The endpoint with address .number, a default route, and all chosen."""
    addresses, routes = [], []
    for subnet in on.subnets:
        base, _, prefix = subnet.subnet.partition("/")
        ipv6 = ":" in base
        host = base.removesuffix("0") if not ipv6 else base
        addresses.append(f"{host}{number:x}/{prefix}" if ipv6 else f"{host}{number}/{prefix}")
        routes.append(Route(destination="::/0" if ipv6 else "0.0.0.0/0", gateway=subnet.gateway))
    identity = secrets.token_hex(32)
    made = {
        "id": identity,
        "network": on.id,
        "container": secrets.token_hex(32),
        "interface": "eth0",
        "host_interface": f"ve{identity[:12]}",
        "mac": f"02:42:{secrets.token_bytes(4).hex(':')}",
        "addresses": tuple(addresses),
        "routes": tuple(routes),
    }
    return Endpoint(**{**made, **more})


def bare(address: str) -> str:
    return address.partition("/")[0]


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true before patience ends: what the kernel does in its own time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _state(world: World, where: int | None) -> Json:
    links = {
        link["ifname"]: (
            link.get("linkinfo", {}).get("info_kind"),
            link.get("ifalias"),
            link["mtu"],
            link.get("master"),
            "UP" in link["flags"],
            sorted(
                f"{address['local']}/{address['prefixlen']}"
                for address in link["addr_info"]
                if address["scope"] == "global"
            ),
        )
        for link in world.ip("addr", inside=where)
    }
    routes = sorted(
        (route["dst"], route.get("gateway", ""), route["dev"])
        for family in ("-4", "-6")
        for route in world.ip(family, "route", inside=where)
        if not route["dst"].startswith(("fe80:", "ff00:", "multicast"))
    )
    return links, routes
