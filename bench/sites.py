"""Engines side by side, each on a host of its own.

A host is a network namespace on a switch that all share, with a neighbour that has no
engine. For engines in one namespace share its rules: where dockerd is, what is forwarded
is dropped unless dockerd allowed it, and every packet passes its chains.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from orlop.benchmark import orlop_engine
from orlop.benchmark.bench import Bench, in_words
from orlop.benchmark.image import Image
from orlop.benchmark.peers.docker import DockerLike, own_docker, podman
from orlop.errors import OrlopError
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import Namespace, unshare
from tests.integration.vxlan.hosts import Underlay, inside

NAME_SERVER = "127.0.0.53"  # that each host's /etc/resolv.conf names


class Site(NamedTuple):
    """A host."""

    engine: DockerLike
    pid: int  # of a process in its namespace
    address: str

    def call(self, *words: str) -> str:
        """Return what a command line of the engine's prints."""
        return self.engine.call(*self.engine.front, *words).decode().strip()


def enter(pid: int) -> list[str]:
    """Return the words that have a command run in the network namespace of *pid*."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


@contextmanager
def side_by_side(bench: Bench, names: Sequence[str]) -> Iterator[tuple[list[Site], int]]:
    """Start Orlop and those of *names* that are --peers; yield them, and the neighbour's pid."""
    folder, _ = bench.places("hosts")
    _move_away(folder)
    with ExitStack() as stack:
        underlay = Underlay(folder)
        stack.callback(underlay.close)
        neighbour = underlay.stranger()
        sites = []
        for name in ("orlop", *(name for name in names if name in bench.plan.peers)):
            pid = underlay.stranger()
            address = f"10.99.0.{100 + len(underlay.others)}"
            try:
                with inside(pid):  # a daemon is where it was started
                    made = _engine(name, bench.image, bench.places(name), pid)
                    (engine,) = stack.enter_context(made)
            except (OrlopError, OSError) as error:
                bench.left_out(f"{name}: {in_words(error)}")
            else:
                sites.append(Site(engine, pid, address))
        yield sites, neighbour


def _move_away(folder: Path) -> None:
    """Be on a host with nothing but a loopback, and a name server there."""
    resolv_conf = folder / "resolv.conf"
    resolv_conf.write_text(f"nameserver {NAME_SERVER}\n")
    unshare(Namespace.NET | Namespace.MOUNT)
    raise_loopback()
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", str(resolv_conf), "/etc/resolv.conf"], check=True)


def _engine(
    name: str, image: Image, places: Sequence[Path], pid: int
) -> AbstractContextManager[list[DockerLike]]:
    if name == "podman":
        return podman(image, *places, within=enter(pid))
    return {"orlop": _orlop, "docker": own_docker}[name](image, *places)


@contextmanager
def _orlop(image: Image, folder: Path, run: Path) -> Iterator[list[DockerLike]]:
    """Start an engine that is asked by docker's command line: the client is the same for both."""
    front = ["docker", "-H", f"unix://{run}/orlop.sock"]
    with orlop_engine.running(image, folder, run):
        yield [DockerLike("orlop", front, image, marks=[str(run)])]


def bridge_netfilter(site: Site, value: str) -> str:
    """Return whether rules see what a bridge switches there, after setting it to *value*."""
    path = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    with inside(site.pid):
        if not os.path.exists(path):
            return "absent"
        if value:
            Path(path).write_text(value)
        return Path(path).read_text().strip()
