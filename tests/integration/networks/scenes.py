"""Containers that talk: what they run, and what the machine has of networks."""

import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from orlop.engine.engine import Engine
from orlop.engine.requests import NetworkRequest
from orlop.model.container import Container, ContainerOptions
from orlop.model.network import EndpointOptions, Network, Subnet
from tests.integration.engine.harness import until

_SERVER = """
import selectors, socket, sys
selector = selectors.DefaultSelector()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    one = socket.socket(socket.AF_INET6, kind)
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("::", 7000))
    if kind == socket.SOCK_STREAM:
        one.listen()
    selector.register(one, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj.type == socket.SOCK_DGRAM:
            data, peer = key.fileobj.recvfrom(2000)
            key.fileobj.sendto(b"%s to " % sys.argv[1].encode() + peer[0].encode(), peer)
        else:
            client, peer = key.fileobj.accept()
            client.sendall(b"%s to " % sys.argv[1].encode() + peer[0].encode())
            client.close()
"""
_CLIENT = """
import socket, sys
def ask(kind, host):
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 7000, type=kind)[0]
        with socket.socket(family, kind) as one:
            one.settimeout(2.0)
            one.connect(address)
            one.send(b"x")
            return one.recv(2000).decode()
    except OSError as error:
        return f"{host}: {error.strerror or error}"
for host in sys.argv[1:]:
    print(ask(socket.SOCK_STREAM, host))
    print(ask(socket.SOCK_DGRAM, host))
"""


def server(name: str, network: str, **options: Any) -> ContainerOptions:
    """Return a container that tells on port 7000, TCP and UDP, who it is and who asks."""
    command = ("python3", "-c", _SERVER, name)
    return ContainerOptions(image="host", command=command, network=network, **options)


def client(*hosts: str, network: str, **options: Any) -> ContainerOptions:
    """Return one that prints what servers answer: two lines each, TCP and UDP."""
    command = ("python3", "-c", _CLIENT, *hosts)
    return ContainerOptions(image="host", command=command, network=network, **options)


def ask(*hosts: str, where: Sequence[str] = ()) -> list[str]:
    """Do what client() does, from here; *where*: words before the command."""
    command = [*where, "python3", "-c", _CLIENT, *hosts]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


async def serve(engine: Engine, name: str, network: str, **options: Any) -> Container:
    """Have a server run, and return it once it listens."""
    created = await engine.containers.create(server(name, network, **options), name=name)
    await engine.containers.start(created.id)
    container = engine.containers.get(created.id)
    await until(lambda: listens(container.pid))
    return container


def listens(pid: int) -> bool:
    """Whether the process's network namespace has somebody on port 7000, TCP and UDP."""
    found = 0
    for table in ("tcp6", "udp6"):
        with suppress(OSError), open(f"/proc/{pid}/net/{table}") as file:
            found += any(line.split()[1].endswith(":1B58") for line in file.readlines()[1:])
    return found == 2


async def made(engine: Engine, name: str, *subnets: str, **more: Any) -> Network:
    """Make a network."""
    request = NetworkRequest(
        name=name, subnets=tuple(Subnet(subnet=text) for text in subnets), **more
    )
    network, _ = await engine.networks.create(request)
    return network


def on(**networks: EndpointOptions) -> Mapping[str, EndpointOptions]:
    return networks


def address(container: Container, *, version: int = 4, place: int = 0) -> str:
    """Return the container's address, without the length of its prefix."""
    found = [one.partition("/")[0] for one in container.endpoints[place].addresses]
    return next(one for one in found if (":" in one) == (version == 6))


def interfaces(pid: int) -> dict[str, list[str]]:
    """Return the addresses of each interface of a process's network namespace, but for lo."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", "address"]
    said = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
    return {
        link["ifname"]: [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]
        for link in json.loads(said)
        if link["ifname"] != "lo"
    }


def default_routes(pid: int) -> list[str]:
    """Return "GATEWAY INTERFACE" of each default route in a process's network namespace."""
    found = []
    for family in ("-4", "-6"):
        command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", family, "route"]
        said = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
        routes = [one for one in json.loads(said or b"[]") if one["dst"] == "default"]
        found += [f"{one['gateway']} {one['dev']}" for one in routes]
    return found


def machine() -> list[str]:
    """Return what this network namespace has: interfaces, addresses, routes, rules."""
    lines: list[str] = []
    for command in (
        ["ip", "-oneline", "link"],
        ["ip", "-oneline", "-4", "address"],
        ["ip", "-4", "route"],
        ["nft", "list", "tables"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        lines += [line.partition(": ")[2] or line for line in done.stdout.splitlines()]
    return lines


def can_bind(port: int) -> bool:
    """Whether nobody has this TCP port of the host."""
    with socket.socket() as one:
        try:
            one.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
