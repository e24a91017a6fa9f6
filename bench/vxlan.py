"""A network over two hosts beside the plain wire below it: throughput, and a packet's way.

    python -m bench.vxlan [--seconds 3] [--rounds 3]

Two hosts are network namespaces on one bridge, joined by veth pairs, so all is done by
this machine's processors: the figure is what the tunnel costs, not what a card carries.
`plain` is between the hosts, `bridge` between two containers of one host, `vxlan`
between containers of both. One after the other, in turn; medians.
"""

import argparse
import json
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.measure import end_in_order, save
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


def round_trip_us(ends: Ends, count: int = 5000) -> float:
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
    return statistics.median(times) * 1e6


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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every single value there")
    args = parser.parse_args(arguments)
    end_in_order()
    with tempfile.TemporaryDirectory() as folder:
        underlay = Underlay(Path(folder))
        try:
            compared = ways(underlay)
            rates: dict[str, list[float]] = {name: [] for name in compared}
            times: dict[str, list[float]] = {name: [] for name in compared}
            for _ in range(args.rounds):
                for name, ends in compared.items():
                    rates[name].append(gigabits(ends, args.seconds))
                    times[name].append(round_trip_us(ends))
        finally:
            underlay.close()
    save(args.json, {"gbit_per_s": rates, "round_trip_us": times})
    plain = statistics.median(rates["plain"])
    print(f"{'way':8} {'Gbit/s':>8} {'of plain':>9} {'round trip':>11}")
    for name in compared:
        rate, time_us = statistics.median(rates[name]), statistics.median(times[name])
        print(f"{name:8} {rate:8.2f} {rate / plain:9.2f} {time_us:8.1f} us")


if __name__ == "__main__":
    main()
