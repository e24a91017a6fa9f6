"""A network over two hosts beside the plain wire below it: throughput, and a packet's way.

Two hosts are network namespaces on one bridge, joined by veth pairs, so all is done by
this machine's processors: the figure is what the tunnel costs, not what a card carries.
`plain` is between the hosts, `bridge` between two containers of one host, `vxlan`
between containers of both. In turns.
"""

import json
import socket
import statistics
import subprocess
import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from orlop.benchmark.bench import Bench
from tests.integration.vxlan.hosts import Underlay, inside, until

_PORT = 5201


class Ends(NamedTuple):
    client: int  # a pid in the namespace
    server: int
    address: str


def gigabits(ends: Ends, seconds: float) -> float:
    """Return what one TCP connection carries, in Gbit/s, by iperf3."""
    enter = ["nsenter", f"--net=/proc/{ends.server}/ns/net"]
    server = subprocess.Popen([*enter, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    try:
        until(lambda: _listens(ends.server))
        enter = ["nsenter", f"--net=/proc/{ends.client}/ns/net"]
        done = subprocess.run(
            [*enter, "iperf3", "-J", "-c", ends.address, "-t", str(seconds)],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        server.kill()
        server.wait()
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def round_trip_ms(ends: Ends, count: int = 5000) -> float:
    """Return the median time of a UDP packet to the other end and back."""
    with inside(ends.server):
        far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(ends.client):
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    times = []
    with far, near:
        far.bind((ends.address, 0))
        near.connect(far.getsockname())
        near.settimeout(2)
        for _ in range(count):
            begin = time.perf_counter()
            near.send(b"x")
            data, source = far.recvfrom(10)
            far.sendto(data, source)
            near.recv(10)
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def _listens(pid: int) -> bool:
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ss", "-Hltn", f"sport = :{_PORT}"]
    return bool(subprocess.run(command, capture_output=True, check=True).stdout)


def ways(underlay: Underlay) -> dict[str, Ends]:
    """Return the ends of each way that is compared."""
    one, two = underlay.network(2)
    here, beside, there = one.attach("here"), one.attach("beside"), two.attach("there")
    here.hears(there)
    return {
        "plain": Ends(one.pid, two.pid, two.ipv4),
        "bridge": Ends(here.pid, beside.pid, beside.ipv4),
        "vxlan": Ends(here.pid, there.pid, there.ipv4),
    }


def measure(bench: Bench) -> None:
    """Send --rounds times on each way, in turns."""
    seconds = float(bench.settings["seconds"])

    def both(ends: Ends) -> tuple[float, float]:
        return gigabits(ends, seconds), round_trip_ms(ends)

    def add(found: Mapping[str, list[tuple[float, float]]]) -> None:
        plain = statistics.median(rate for rate, _ in found["plain"])
        for name, values in found.items():
            rates, times = (list(column) for column in zip(*values, strict=True))
            rate = statistics.median(rates)
            figures = {"gbit_per_second": rate, "of_plain": rate / plain}
            figures["round_trip_p50_ms"] = statistics.median(times)
            samples = {"gbit_per_second": rates, "round_trip_ms": times}
            bench.add(name, figures, samples=samples)

    underlay = Underlay(bench.places("vxlan")[0])
    try:
        actions = {name: partial(both, ends) for name, ends in ways(underlay).items()}
        bench.alternate(actions, bench.plan.rounds, add)
    finally:
        underlay.close()
