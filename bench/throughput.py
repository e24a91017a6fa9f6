"""What passes through containers' networks beside Docker's: one TCP connection of iperf3.

    python -m bench.throughput [--rounds 5] [--seconds 2] [--engines orlop,docker,podman]

Each engine is on a host of its own (bench/sites.py). iperf3 and its libraries are the
machine's, bind-mounted, and run in the containers. Engines take turns, and the order
turns around with each round; told are medians, and of the rounds' ratios the median
and the middle half, which is wide where others are at work on the machine.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench import sites
from bench.measure import end_in_order, save
from bench.sites import Site

_PORT, _OUTSIDE_PORT = "5201", "5301"
_CONGESTION = [
    "-C",
    "reno",
]  # what every container may use; bbr, where it is set, measures the path
_ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"

WAYS = {
    "containers": "from a container to another of its network",
    "host": "from the host to a published port of its address",
    "loopback": "from the host to a published port of 127.0.0.1",
    "neighbour": "from another host to a published port",
    "outwards": "from a container to another host, masqueraded",
}


class Bench(NamedTuple):
    """A host with a container that listens and one that sends, and a host beside it."""

    site: Site
    server: str  # address of the container that listens
    neighbour: int  # pid
    neighbour_address: str


def mounts() -> list[str]:
    """Return the options that put iperf3 and its libraries where they are on this machine."""
    program = sites.output(["sh", "-c", "command -v iperf3"])
    listed = sites.output(["ldd", program])
    paths = [program, *re.findall(r"(/\S+) \(0x", listed)]
    libc = next(path for path in paths if "/libc.so" in path)
    paths.append(str(Path(libc).with_name("libgcc_s.so.1")))  # its threads' end wants it
    return [f"-v={Path(path).resolve()}:{path}:ro" for path in paths]


def prepare(site: Site, neighbour: int, neighbour_address: str) -> Bench:
    """Have a network there with two containers, one of which listens on a published port."""
    call, iperf3 = site.call, mounts()
    without_names = ["--disable-dns"] if site.name == "podman" else []  # it needs aardvark-dns
    call("network", "create", *without_names, "bench")
    here = ["run", "-d", "--network", "bench", *iperf3]
    call(*here, "--name", "server", "-p", f"{_PORT}:{_PORT}", sites.IMAGE, "iperf3", "-s")
    call(*here, "--name", "client", sites.IMAGE, "sleep", "3600")
    address = call("inspect", "-f", _ADDRESS, "server")
    return Bench(site, address, neighbour, neighbour_address)


def gigabits(bench: Bench, way: str, seconds: float) -> float:
    """Return what was received on that *way*, in Gbit/s; once again if nobody listens yet."""
    words = ["iperf3", "-J", "-t", str(seconds), "--connect-timeout", "3000", *_CONGESTION]
    site = bench.site
    send: Callable[[], str] = {
        "containers": lambda: site.call("exec", "client", *words, "-c", bench.server),
        "host": lambda: sites.on(site.pid, *words, "-c", site.address),
        "loopback": lambda: sites.on(site.pid, *words, "-c", "127.0.0.1"),
        "neighbour": lambda: sites.on(bench.neighbour, *words, "-c", site.address),
        "outwards": lambda: site.call(
            "exec", "client", *words, "-p", _OUTSIDE_PORT, "-c", bench.neighbour_address
        ),
    }[way]
    for attempt in range(3):
        try:
            result = json.loads(send())
        except (AssertionError, RuntimeError):
            if attempt == 2:
                raise
            time.sleep(0.5)  # the server may not listen yet, or be busy with the last one's end
        else:
            return float(result["end"]["sum_received"]["bits_per_second"]) / 1e9
    raise AssertionError("not reached")


def measure(
    benches: Sequence[Bench], ways: Sequence[str], rounds: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Return by way and engine what each round gave; a table is printed for each way."""
    results: dict[str, dict[str, list[float]]] = {}
    for way in ways:
        rates: dict[str, list[float]] = {bench.site.name: [] for bench in benches}
        for number in range(rounds):
            for bench in benches[:: -1 if number % 2 else 1]:
                rates[bench.site.name].append(gigabits(bench, way, seconds))
        results[way] = rates
        print(f"{way}: {WAYS[way]}")
        for name, values in rates.items():
            print(f"  {name:8} {_row(rates['orlop'], values)}", flush=True)
    return results


def _row(ours: Sequence[float], theirs: Sequence[float]) -> str:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    rate = statistics.median(theirs)
    return f"{rate:6.2f} Gbit/s   orlop/it {middle:5.2f} ({low:.2f} to {high:.2f})"


def compare(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Start everything, and measure."""
    names = sites.installed(options.engines.split(","))
    with ExitStack() as stack:
        hosts, neighbour = stack.enter_context(sites.side_by_side(folder, names))
        enter = ["nsenter", f"--net=/proc/{neighbour}/ns/net"]
        outside = subprocess.Popen(
            [*enter, "iperf3", "-s", "-p", _OUTSIDE_PORT], stdout=subprocess.DEVNULL
        )
        stack.callback(outside.wait)
        stack.callback(outside.kill)
        for site in hosts:
            seen = sites.bridge_netfilter(site, options.bridge_netfilter)
            print(f"{site.name}: bridge-nf-call-iptables {seen}")
        benches = [prepare(site, neighbour, "10.99.0.101") for site in hosts]
        return measure(benches, options.ways.split(","), options.rounds, options.seconds)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--engines", default="orlop,docker")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--bridge-netfilter", choices=("0", "1"), default="")
    parser.add_argument("--json", type=Path, help="write every single value there")
    options = parser.parse_args(arguments)
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="orlop-bench-") as folder:
        save(options.json, compare(Path(folder), options))


if __name__ == "__main__":
    main(sys.argv[1:])
