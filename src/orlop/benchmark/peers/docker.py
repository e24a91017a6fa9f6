"""docker and podman, which share a command line."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orlop.benchmark.driver import IDLE, MEMORY_BYTES, PIDS, Start, timed
from orlop.benchmark.image import REFERENCE, Image
from orlop.benchmark.peers import daemons
from orlop.benchmark.peers.command import CommandDriver, parts, unique
from orlop.errors import UnavailableError

_LIMITS = [f"--memory={MEMORY_BYTES}", f"--pids-limit={PIDS}", "--network=none"]


class DockerLike(CommandDriver):
    """`run --rm`, attached to the output, with the limits and the network of Orlop's."""

    def __init__(
        self, name: str, front: Sequence[str], image: Image, *, marks: Sequence[str]
    ) -> None:
        super().__init__()
        self.name = name
        self.marks = marks
        self._front = list(front)
        self._image = image

    def once(self) -> Start:
        words = [*self._front, "run", "--rm", *_LIMITS, REFERENCE, *self._image.probe()]
        return timed(self._image, lambda: self.call(*words))

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        name = unique()
        limits = _LIMITS if cpus is None else [*_LIMITS, f"--cpus={cpus}"]
        self.call(*self._front, "run", "-d", "--name", name, *limits, REFERENCE, *command)
        return name

    def execute(self, identifier: str) -> None:
        self.call(*self._front, "exec", identifier, "true")

    def remove(self, identifiers: Sequence[str]) -> None:
        at_once = ["-t", "0"] if self.name == "podman" else []  # docker never waits for SIGTERM
        for some in parts(identifiers):
            self.call(*self._front, "rm", "-f", *at_once, *some)

    def load(self) -> None:
        """Have the image."""
        self.call(*self._front, "load", "-q", "-i", str(self._image.archive))

    def forget(self) -> None:
        """Remove the image, and containers that were left when the run was interrupted."""
        names = self.call(*self._front, "ps", "-aq", "--filter", f"ancestor={REFERENCE}")
        self.remove(names.decode().split())
        self.call(*self._front, "rmi", "-f", REFERENCE)


@contextmanager
def docker(image: Image, folder: Path, run: Path, *, start: bool) -> Iterator[list[DockerLike]]:
    """Use the machine's dockerd, or else one of the run's own, if it may be started."""
    daemons.required("docker")
    with ExitStack() as stack:
        front, marks = ["docker"], ["dockerd", "containerd"]
        if not daemons.answers([*front, "version"]):
            if not start:
                raise UnavailableError("dockerd does not run", hint="--start-peers")
            front, marks = ["docker", "-H", f"unix://{run}/docker.sock"], [str(run)]
            stack.enter_context(
                daemons.daemon(_dockerd(folder, run), folder, [*front, "version"], run)
            )
        driver = DockerLike("docker", front, image, marks=marks)
        driver.load()
        stack.callback(driver.forget)
        yield [driver]


def _dockerd(folder: Path, run: Path) -> list[str]:
    daemons.required("dockerd")
    places = ["--data-root", f"{folder}/root", "--exec-root", f"{run}/run"]
    network = ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    return [
        "dockerd", *places, *network, "--pidfile", f"{run}/pid", "-H", f"unix://{run}/docker.sock"
    ]  # fmt: skip


@contextmanager
def podman(image: Image, folder: Path, run: Path, *, start: bool) -> Iterator[list[DockerLike]]:
    """Use podman, which has no daemon, with folders of its own."""
    del start
    daemons.required("podman")
    runtime = ["--runtime", "runc"] if shutil.which("runc") else []  # crun refuses hybrid cgroups
    places = ["--root", f"{folder}/root", "--runroot", f"{run}/run", "--tmpdir", f"{run}/tmp"]
    front = ["podman", *places, "--cgroup-manager", "cgroupfs", *runtime]
    driver = DockerLike("podman", front, image, marks=[str(run)])
    driver.folder = str(folder)
    driver.load()
    try:
        yield [driver]
    finally:
        driver.forget()
