"""containerd, by its own command line, ctr."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from orlop.benchmark.driver import IDLE, MEMORY_BYTES, TimedStart, timed
from orlop.benchmark.image import REFERENCE, Image
from orlop.benchmark.peers import daemons
from orlop.benchmark.peers.command import CommandDriver, unique
from orlop.errors import UnavailableError

_NAMESPACE = "orlop-bench"
_LIMITS = [f"--memory-limit={MEMORY_BYTES}", "--seccomp"]


class Containerd(CommandDriver):
    """`ctr run --rm`: a network namespace with nothing in it, seccomp, a memory limit."""

    name = "ctr"
    note = "has no pids limit, which ctr does not offer"

    def __init__(self, front: Sequence[str], image: Image, *, marks: Sequence[str]) -> None:
        self.marks = marks
        self._front = [*front, "-n", _NAMESPACE]
        self._image = image

    def once(self) -> TimedStart:
        words = [*self._front, "run", "--rm", *_LIMITS, REFERENCE, unique(), *self._image.probe()]
        return timed(self._image, lambda: self.call(*words))

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        name = unique()
        limits = _LIMITS if cpus is None else [*_LIMITS, f"--cpus={cpus}"]
        self.detach(*self._front, "run", "-d", *limits, REFERENCE, name, *command)
        return name

    def execute(self, identifier: str) -> None:
        self.call(*self._front, "task", "exec", "--exec-id", unique(), identifier, "true")

    def remove(self, identifiers: Sequence[str]) -> None:
        for identifier in identifiers:
            with suppress(UnavailableError):  # it has ended by itself
                self.call(*self._front, "task", "rm", "-f", identifier)
            self.call(*self._front, "container", "rm", identifier)

    def pull(self, reference: str) -> None:
        self.call(*self._front, "image", "pull", "--plain-http", reference)

    def forget_image(self, reference: str) -> None:
        self.call(*self._front, "image", "rm", "--sync", reference)

    def load(self) -> None:
        """Have the image."""
        self.call(*self._front, "image", "import", str(self._image.archive))

    def forget(self) -> None:
        """Remove image and namespace, and containers that an interrupted run has left."""
        names = self.call(*self._front, "container", "ls", "-q").decode().split()
        self.remove(names)
        self.forget_image(REFERENCE)
        with suppress(UnavailableError):  # its last contents go when they are collected
            self.call(*self._front, "namespace", "rm", _NAMESPACE)


@contextmanager
def containerd(image: Image, folder: Path, run: Path, *, start: bool) -> Iterator[list[Containerd]]:
    """Use the machine's containerd, or else one of the run's own, if it may be started."""
    daemons.required("ctr")
    with ExitStack() as stack:
        front, marks = ["ctr"], ["containerd"]
        if not daemons.answers([*front, "version"]):
            if not start:
                raise UnavailableError("containerd does not run", hint="--start-peers")
            front, marks = ["ctr", "-a", f"{run}/containerd.sock"], [str(run)]
            command = ["containerd", "--config", str(_configuration(folder, run))]
            stack.enter_context(daemons.daemon(command, folder, [*front, "version"], run))
        driver = Containerd(front, image, marks=marks)
        driver.load()
        stack.callback(driver.forget)
        yield [driver]


def _configuration(folder: Path, run: Path) -> Path:
    daemons.required("containerd")
    path, socket = run / "config.toml", run / "containerd.sock"
    path.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{run}/run"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{socket}"\n'
    )
    return path
