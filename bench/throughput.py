"""What passes through containers' networks beside Docker's: one TCP connection of iperf3.

Each engine is on a host of its own. iperf3 and its libraries are the machine's, bind-mounted,
and run in the containers. Told are medians, and of the rounds' ratios the median and the
middle half, which is wide where others are at work on the machine.
"""

import json
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import sites
from bench.sites import Site, enter
from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import IDLE
from orlop.benchmark.image import REFERENCE
from orlop.benchmark.peers.daemons import required
from orlop.errors import UnavailableError

_PORT, _OUTSIDE_PORT = "5201", "5301"
_CONGESTION = ["-C", "reno"]  # what every container may use; bbr, where set, measures the path
_ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
_ATTEMPTS = 3

WAYS = {
    "containers": "a container to another of its network",
    "host": "the host to a published port of its address",
    "loopback": "the host to a published port of 127.0.0.1",
    "neighbour": "another host to a published port",
    "outwards": "a container to another host, masqueraded",
}
SETTINGS = {"seconds": "2", "ways": ",".join(WAYS), "bridge_netfilter": ""}


class Traffic(NamedTuple):
    """A host with a container that listens and one that sends, and a host beside it."""

    site: Site
    server: str  # address of the container that listens
    neighbour: int  # pid
    neighbour_address: str

    def command(self, way: str, *iperf3: str) -> list[str]:
        """Return the command that sends on that *way*."""
        inside = [*self.site.engine.front, "exec", "client", *iperf3]
        host, neighbour = [*enter(self.site.pid), *iperf3], [*enter(self.neighbour), *iperf3]
        return {
            "containers": [*inside, "-c", self.server],
            "host": [*host, "-c", self.site.address],
            "loopback": [*host, "-c", "127.0.0.1"],
            "neighbour": [*neighbour, "-c", self.site.address],
            "outwards": [*inside, "-p", _OUTSIDE_PORT, "-c", self.neighbour_address],
        }[way]


class Throughput(NamedTuple):
    gbit_per_second: float


def measure(bench: Bench) -> None:
    """Send for --set seconds, --rounds times on each way, in turns."""
    required("iperf3")
    with ExitStack() as stack:
        hosts, neighbour = stack.enter_context(sites.side_by_side(bench, ["docker", "podman"]))
        outside = subprocess.Popen(
            [*enter(neighbour), "iperf3", "-s", "-p", _OUTSIDE_PORT], stdout=subprocess.DEVNULL
        )
        stack.callback(outside.wait)
        stack.callback(outside.kill)
        for site in hosts:
            seen = sites.bridge_netfilter(site, bench.settings["bridge_netfilter"])
            bench.left_out(f"{site.engine.name}: bridge-nf-call-iptables is {seen}")
        ends = {site.engine.name: prepare(site, neighbour, "10.99.0.101") for site in hosts}
        for way in bench.settings["ways"].split(","):
            seconds = bench.settings["seconds"]
            actions = {name: partial(throughput, one, way, seconds) for name, one in ends.items()}
            bench.alternate(actions, bench.plan.rounds, partial(_add, bench, way))


def _add(bench: Bench, way: str, found: Mapping[str, list[Throughput]]) -> None:
    for name, sent in found.items():
        rates = [one.gbit_per_second for one in sent]
        figures = {"gbit_per_second": statistics.median(rates)}
        pairs = list(zip(found.get("orlop", []), sent, strict=False))
        ratios = [ours.gbit_per_second / its.gbit_per_second for ours, its in pairs]
        if len(ratios) > 1:
            quartiles = statistics.quantiles(ratios, n=4, method="inclusive")
            names = ("orlop_by_it_low", "orlop_by_it", "orlop_by_it_high")
            figures |= dict(zip(names, quartiles, strict=True))
        bench.add(name, figures, case=WAYS[way], samples={"gbit_per_second": rates})


def prepare(site: Site, neighbour: int, neighbour_address: str) -> Traffic:
    """Have a network there with two containers, one of which listens on a published port."""
    without_names = ["--disable-dns"] if site.engine.name == "podman" else []  # needs aardvark-dns
    site.call("network", "create", *without_names, "bench")
    iperf3, mounts = shutil.which("iperf3") or "iperf3", _mounts()
    here = ["run", "-d", "--network", "bench", *mounts]
    published = ["-p", f"{_PORT}:{_PORT}"]
    site.call(*here, "--name", "server", *published, REFERENCE, iperf3, "-s")
    site.call(*here, "--name", "client", REFERENCE, *IDLE)
    address = site.call("inspect", "-f", _ADDRESS, "server")
    return Traffic(site, address, neighbour, neighbour_address)


def _mounts() -> list[str]:
    """Return the options that put iperf3 and its libraries where they are on this machine."""
    program = shutil.which("iperf3") or "iperf3"
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    paths = [program, *re.findall(r"(/\S+) \(0x", listed)]
    libc = next(path for path in paths if "/libc.so" in path)
    paths.append(str(Path(libc).with_name("libgcc_s.so.1")))  # its threads' end wants it
    return [f"-v={Path(path).resolve()}:{path}:ro" for path in paths]


def throughput(ends: Traffic, way: str, seconds: str) -> Throughput:
    """Return what was received on that *way*; once again if nobody listens yet."""
    words = [shutil.which("iperf3") or "iperf3", "-J", "-t", seconds, "--connect-timeout", "3000"]
    for attempt in range(_ATTEMPTS):
        try:
            result = json.loads(ends.site.engine.call(*ends.command(way, *words, *_CONGESTION)))
        except UnavailableError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.5)  # the server may not listen yet, or be busy with the last one's end
        else:
            return Throughput(float(result["end"]["sum_received"]["bits_per_second"]) / 1e9)
    raise AssertionError("not reached")
