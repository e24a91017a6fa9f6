"""Engines side by side, each on a host of its own.

A host is a network namespace on a switch that all share, with a neighbour that has no
engine. For engines in one namespace share its rules: where dockerd is, what is forwarded
is dropped unless dockerd allowed it, and every packet passes its chains.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.dns import docker, move_away, orlop
from tests.integration import engines
from tests.integration.vxlan.hosts import Underlay, inside

IMAGE = "localhost/busybox:bench"
_TIMEOUT_S = 120


class Site(NamedTuple):
    """A host."""

    name: str  # of its engine
    pid: int  # of a process in its namespace
    address: str
    call: Callable[..., str]  # words of docker's command line to what they print


@contextmanager
def podman(folder: Path, pid: int) -> Iterator[Callable[..., str]]:
    """Give podman with folders of its own; without a daemon, each call is on the host."""
    places = ["--root", f"{folder}/root", "--runroot", f"{folder}/run"]
    how = ["--cgroup-manager", "cgroupfs", "--runtime", "runc"]  # crun refuses cgroup v1 hybrid
    front = ["podman", *places, *how, "--network-config-dir", f"{folder}/networks"]

    def call(*words: str) -> str:
        with inside(pid):
            return output([*front, *words])

    try:
        yield call
    finally:
        call("rm", "-f", "-t", "0", "--all")
        call("system", "reset", "--force")


def output(command: Sequence[str]) -> str:
    """Return what a command prints; RuntimeError with its words where it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def on(pid: int, *command: str) -> str:
    """Return what a command prints that is run in the namespace of *pid*."""
    return output(["nsenter", f"--net=/proc/{pid}/ns/net", *command])


def installed(names: Sequence[str]) -> list[str]:
    """Return those of *names* that this machine can run."""
    programs = {"docker": "dockerd", "podman": "podman"}
    return [name for name in names if shutil.which(programs.get(name, "sh"))]


@contextmanager
def side_by_side(folder: Path, names: Sequence[str]) -> Iterator[tuple[list[Site], int]]:
    """Start the engines called *names*; yield them with the image, and the neighbour's pid."""
    move_away(folder)
    archive = engines.docker_archive(
        folder / "busybox.tar", tags=[IMAGE], config={"Env": ["PATH=/bin:/usr/bin"]}
    )
    with ExitStack() as stack:
        underlay = Underlay(folder)
        stack.callback(underlay.close)
        neighbour = underlay.stranger()
        sites = []
        for name in names:
            pid = underlay.stranger()
            address = f"10.99.0.{100 + len(underlay.others)}"
            call = stack.enter_context(_engine(name, folder / name, pid))
            call("load", "-q", "-i", str(archive))
            sites.append(Site(name, pid, address, call))
        yield sites, neighbour


@contextmanager
def _engine(name: str, folder: Path, pid: int) -> Iterator[Callable[..., str]]:
    with ExitStack() as stack:
        if name == "podman":
            yield stack.enter_context(podman(folder, pid))
            return
        with inside(pid):  # a daemon is where it was started
            call = stack.enter_context({"orlop": orlop, "docker": docker}[name](folder))
        yield call


def bridge_netfilter(site: Site, value: str = "") -> str:
    """Return whether rules see what a bridge switches there, after setting it to *value*."""
    path = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    with inside(site.pid):
        if not os.path.exists(path):
            return "absent"
        if value:
            Path(path).write_text(value)
        return Path(path).read_text().strip()
