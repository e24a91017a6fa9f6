"""docker, podman and orlop, which share a command line."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orlop.benchmark import orlop_engine
from orlop.benchmark.driver import IDLE, MEMORY_BYTES, PIDS, TimedStart, timed
from orlop.benchmark.image import REFERENCE, Image
from orlop.benchmark.peers import daemons
from orlop.benchmark.peers.command import CommandDriver, orlop_program, parts, unique
from orlop.client.address import Settings
from orlop.errors import UnavailableError

_NO_NETWORK = ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
_LIMITS = [f"--memory={MEMORY_BYTES}", f"--pids-limit={PIDS}", "--network=none"]


class DockerLike(CommandDriver):
    """`run --rm`, attached to the output, with the limits and the network of Orlop's."""

    def __init__(
        self, name: str, front: Sequence[str], image: Image, *, marks: Sequence[str]
    ) -> None:
        self.name = name
        self.marks = marks
        self.front = list(front)
        self._image = image

    def once(self) -> TimedStart:
        words = [*self.front, "run", "--rm", *_LIMITS, REFERENCE, *self._image.probe()]
        return timed(self._image, lambda: self.call(*words))

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        name = unique()
        limits = _LIMITS if cpus is None else [*_LIMITS, f"--cpus={cpus}"]
        self.call(*self.front, "run", "-d", "--name", name, *limits, REFERENCE, *command)
        return name

    def execute(self, identifier: str) -> None:
        self.call(*self.front, "exec", identifier, "true")

    def remove(self, identifiers: Sequence[str]) -> None:
        at_once = ["-t", "0"] if self.name == "podman" else []  # docker never waits for SIGTERM
        for some in parts(identifiers):
            self.call(*self.front, "rm", "-f", *at_once, *some)

    def pull(self, reference: str) -> None:
        plain = ["--tls-verify=false"] if self.name == "podman" else []
        self.call(*self.front, "pull", "-q", *plain, reference)

    def forget_image(self, reference: str) -> None:
        self.call(*self.front, "rmi", "-f", reference)

    @contextmanager
    def loaded(self) -> Iterator[list["DockerLike"]]:
        """Have the image; in the end remove it, and containers that an interrupted run has left."""
        self.call(*self.front, "load", "-q", "-i", str(self._image.archive))
        try:
            yield [self]
        finally:
            names = self.call(*self.front, "ps", "-aq", "--filter", f"ancestor={REFERENCE}")
            self.remove(names.decode().split())
            self.forget_image(REFERENCE)


@contextmanager
def docker(image: Image, folder: Path, run: Path, *, start: bool) -> Iterator[list[DockerLike]]:
    """Use the machine's dockerd, or else one of the run's own, if it may be started."""
    daemons.required("docker")
    if daemons.answers(["docker", "version"]):
        theirs = DockerLike("docker", ["docker"], image, marks=["dockerd", "containerd"])
        with theirs.loaded() as drivers:
            yield drivers
    elif start:
        with own_docker(image, folder, run, _NO_NETWORK) as drivers:
            yield drivers
    else:
        raise UnavailableError("dockerd does not run", hint="--start-peers")


@contextmanager
def own_docker(
    image: Image, folder: Path, run: Path, options: Sequence[str] = ()
) -> Iterator[list[DockerLike]]:
    """Start a dockerd of the run's own."""
    daemons.required("dockerd")
    address = ["-H", f"unix://{run}/docker.sock"]
    places = ["--data-root", f"{folder}/root", "--exec-root", f"{run}/run"]
    command = ["dockerd", *places, *options, "--pidfile", f"{run}/pid", *address]
    driver = DockerLike("docker", ["docker", *address], image, marks=[str(run)])
    question = ["docker", *address, "version"]
    with daemons.daemon(command, folder, question, run), driver.loaded() as drivers:
        yield drivers


@contextmanager
def podman(
    image: Image, folder: Path, run: Path, *, start: bool = False, within: Sequence[str] = ()
) -> Iterator[list[DockerLike]]:
    """Use podman, which has no daemon, with folders of its own."""
    del start
    daemons.required("podman")
    runtime = ["--runtime", "runc"] if shutil.which("runc") else []  # crun refuses hybrid cgroups
    places = ["--root", f"{folder}/root", "--runroot", f"{run}/run", "--tmpdir", f"{run}/tmp"]
    places += ["--network-config-dir", f"{folder}/networks"]
    front = [*within, "podman", *places, "--cgroup-manager", "cgroupfs", *runtime]
    driver = DockerLike("podman", front, image, marks=[str(run)])
    driver.folder = str(folder)
    with driver.loaded() as drivers:
        yield drivers


@contextmanager
def orlop_command(
    image: Image, folder: Path, run: Path, *, start: bool = False, program: str = ""
) -> Iterator[list[DockerLike]]:
    """Use Orlop as docker is used: by its command line, whose first command starts an engine."""
    del start
    settings = Settings(root=str(folder / "root"), run=str(run), host=None)
    driver = DockerLike(
        "orlop command",
        [program or orlop_program("orlop"), "--root", settings.root, "--run", settings.run],
        image,
        marks=[settings.run],
    )
    with orlop_engine.ended(settings), driver.loaded() as drivers:
        yield drivers
