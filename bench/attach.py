"""What it costs to put a container on a bridge network, by how many are there already.

Without engine, firewall and container: a namespace is made, and attached with veth,
MAC address, addresses, default routes. Neighbours are told afterwards, as an engine
does, which is a column of its own. Beside it what `ip` takes for the same, and how much
of ours is in system calls.
"""

import os
import resource
import secrets
import subprocess
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from orlop.benchmark.bench import Bench
from orlop.benchmark.figures import samples_of
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import Namespace, unshare
from orlop.kernel.netlink.connection import Netlink
from orlop.model.network import Endpoint, Network, Route, Subnet
from orlop.network.bridge import Bridge
from orlop.network.namespace import Home
from orlop.network.sysctl import Sysctl

_STEP = 100


class Cost(NamedTuple):
    """Milliseconds."""

    make_ms: float
    attach_ms: float
    kernel_ms: float  # of the attach, in netlink and settings
    cpu_ms: float  # of the attach: on a busy machine it waits for locks that all namespaces share
    announce_ms: float


def measure(bench: Bench) -> None:
    """Attach --live namespaces, and tell what each hundred of them took."""
    count = bench.plan.live
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, count + 256), most))
    unshare(Namespace.NET)
    raise_loopback()
    with Home() as home:
        bench.add("ip -batch, twice", {"attach_p50_ms": with_ip(home)}, case="the first 15")
        costs = attach_many(bench, home, _network(ipv6=bool(bench.settings["ipv6"])), count)
    for first in range(0, count, _STEP):
        samples = samples_of(costs[first : first + _STEP])
        figures = {name.replace("ms", "p50_ms"): median(values) for name, values in samples.items()}
        case = f"{first} to {min(count, first + _STEP)}"
        bench.add("orlop", figures, case=case, at=first, samples=samples)


def attach_many(bench: Bench, home: Home, network: Network, count: int) -> list[Cost]:
    """Attach *count* containers, which stay until the end."""
    home.postpone()
    driver = Bridge(home, "be9c0000")
    network = driver.check(network)
    driver.create(network)
    kernel = _Stopwatch()
    for owner, name in ((Netlink, "ask"), (Sysctl, "write")):
        setattr(owner, name, kernel.around(getattr(owner, name)))
    costs, namespaces = [], []
    try:
        for number in range(2, count + 2):
            bench.progress(number / count, "attached")
            endpoint = _endpoint(network, number)
            began = time.perf_counter()
            namespaces.append(home.make())
            made = time.perf_counter()
            kernel.total_s, running = 0.0, time.thread_time()
            driver.attach(network, endpoint, namespaces[-1])
            attached, cpu = time.perf_counter(), time.thread_time() - running
            of_it = kernel.total_s
            home.settle()
            told = time.perf_counter()
            seconds = (made - began, attached - made, of_it, cpu, told - attached)
            costs.append(Cost(*(value * 1e3 for value in seconds)))
    finally:
        for namespace in namespaces:
            os.close(namespace)
    return costs


def with_ip(home: Home, rounds: int = 15) -> float:
    """Return the median of two `ip -batch`, one here and one inside, in milliseconds."""
    subprocess.run(["ip", "link", "add", "ipbr", "type", "bridge"], check=True)
    values = []
    for number in range(rounds):
        namespace = home.make()
        path = f"/proc/self/fd/{namespace}"
        outside = (
            f"link add vi{number} type veth peer name eth0 netns {path}\n"
            f"link set vi{number} master ipbr up alias bench\n"
        )
        inside = "link set eth0 up\naddr add 10.9.0.2/16 dev eth0\nroute add default via 10.9.0.1\n"
        enter = ["nsenter", f"--net={path}"]
        try:
            began = time.perf_counter()
            for command, batch in (([], outside), (enter, inside)):
                whole = [*command, "ip", "-batch", "-"]
                subprocess.run(whole, input=batch, text=True, check=True, pass_fds=[namespace])
            values.append((time.perf_counter() - began) * 1e3)
        finally:
            os.close(namespace)
    return median(values)


class _Stopwatch:
    def __init__(self) -> None:
        self.total_s = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.total_s += time.perf_counter() - began

        return call


def _network(*, ipv6: bool) -> Network:
    subnets = [Subnet(subnet="10.5.0.0/16", gateway="10.5.0.1")]
    if ipv6:
        subnets.append(Subnet(subnet="fd05::/64", gateway="fd05::1"))
    return Network(id=secrets.token_hex(32), name="bench", ipv6=ipv6, subnets=tuple(subnets))


def _endpoint(network: Network, number: int) -> Endpoint:
    identity = secrets.token_hex(32)
    addresses = [f"10.5.{number >> 8}.{number & 255}/16"]
    routes = [Route(destination="0.0.0.0/0", gateway="10.5.0.1")]
    if network.ipv6:
        addresses.append(f"fd05::{number:x}/64")
        routes.append(Route(destination="::/0", gateway="fd05::1"))
    return Endpoint(
        id=identity,
        network=network.id,
        container=secrets.token_hex(32),
        interface="eth0",
        host_interface=f"ve{identity[:12]}",
        mac=f"02:42:0a:05:{number >> 8:02x}:{number & 255:02x}",
        addresses=tuple(addresses),
        routes=tuple(routes),
    )
