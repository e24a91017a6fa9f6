"""Orlop's ways to start a sandbox; ways() has them all."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial

from orlop.benchmark.driver import (
    IDLE,
    MEMORY_BYTES,
    PATIENCE_S,
    PIDS,
    BenchDriver,
    ForkedCopies,
    ReadySandboxes,
    TimedStart,
    timed,
)
from orlop.benchmark.image import REFERENCE, Image
from orlop.benchmark.load import each
from orlop.client.address import Settings
from orlop.client.client import Client
from orlop.client.containers import Containers
from orlop.client.http import RawStream
from orlop.client.stream import Demultiplexer
from orlop.errors import NotFoundError
from orlop.model.pool import ObjectPool
from orlop.sandbox.boxes.pool import Pool as SandboxPool
from orlop.sandbox.boxes.runner import Runner
from orlop.sandbox.boxes.sandbox import Sandbox

_REMOVERS = 8
_MOST_CLIENTS = 256  # that are kept between two starts
_TRUE = {"Cmd": ["true"], "Tty": False, "AttachStdout": True, "AttachStderr": True, "Group": True}


class Orlop(BenchDriver):
    """What all have: sandboxes that stay."""

    is_orlop = True
    title = "orlop"

    def __init__(self, settings: Settings, image: Image, *, network: str) -> None:
        self.name = self.title if network == "none" else f"{self.title}, {network}"
        self.marks = (settings.run,)
        self.engine = str(settings.address)
        self.image = image
        self.network = network
        self._clients = ObjectPool[Client](end=Client.close, size=_MOST_CLIENTS)
        self._connect = partial(Client, settings)
        self._boxes: dict[str, Sandbox] = {}
        self._options = {
            "image": REFERENCE,
            "memory": MEMORY_BYTES,
            "pids": PIDS,
            "network": network,
            "engine": self.engine,
        }

    def sandbox(self) -> Sandbox:
        """Return one that is not started; it waits for commands."""
        return Sandbox(**self._options)  # type: ignore[arg-type]  # by name

    def runner(self) -> Runner:
        """Return what has a sandbox for each command."""
        return Runner(**self._options)  # type: ignore[arg-type]

    def warm(self, size: int) -> SandboxPool:
        """Return a pool that is not started."""
        return SandboxPool(**self._options, size=size)  # type: ignore[arg-type]

    def body(
        self, command: Sequence[str], *, cpus: float | None = None, remove: bool = False
    ) -> dict[str, object]:
        """Return the body of a create request, as `orlop run` has it: --rm, or -d."""
        config = {
            "Memory": MEMORY_BYTES,
            "PidsLimit": PIDS,
            "NanoCpus": round((cpus or 0) * 1_000_000_000),
            "NetworkMode": self.network,
            "AutoRemove": remove,
        }
        return {
            "Image": REFERENCE,
            "Cmd": list(command),
            "AttachStdout": remove,
            "HostConfig": config,
        }

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        if command is IDLE and cpus is None:
            return self.kept(self.sandbox().start())
        with self.client() as client:  # with a log, which sandboxes do not have
            made = str(client.containers.create(self.body(command, cpus=cpus))["Id"])
            client.containers.start(made)
        return made

    def client(self) -> AbstractContextManager[Client]:
        """Lend a client to one thread."""
        return self._clients.lent(None, self._connect)

    def kept(self, box: Sandbox) -> str:
        """Hold a started sandbox until remove()."""
        self._boxes[box.id] = box
        return box.id

    def box(self, identifier: str) -> Sandbox:
        """Return one that open() has started."""
        return self._boxes[identifier]

    def remove(self, identifiers: Sequence[str]) -> None:
        each(self._remove, identifiers, clients=_REMOVERS)

    def _remove(self, identifier: str) -> None:
        box = self._boxes.pop(identifier, None)
        if box is not None:
            box.close()
            return
        with self.client() as client, contextlib.suppress(NotFoundError):
            client.containers.remove(identifier, force=True, volumes=True)

    def close(self) -> None:
        """Close its connections, and sandboxes that are left."""
        self.remove(list(self._boxes))
        self._clients.close()


class RunnerOrlop(Orlop):
    """`orlop.Runner`: a sandbox for one command, by one request, with its output."""

    def __init__(self, settings: Settings, image: Image, *, network: str) -> None:
        super().__init__(settings, image, network=network)
        self._runner = self.runner()

    def once(self) -> TimedStart:
        return timed(self.image, lambda: self._runner.run(self.image.probe()).stdout)


class SandboxOrlop(Orlop):
    """`orlop.Sandbox`: started with nobody attached, a command run in it, closed."""

    title = "orlop Sandbox"
    note = "is two starts: of the sandbox, and of the command in it, whose first instruction counts"

    def once(self) -> TimedStart:
        return timed(self.image, self._run)

    def _run(self) -> bytes:
        with self.sandbox() as box:
            return box.run(self.image.probe()).stdout

    def execute(self, identifier: str) -> None:
        self.box(identifier).run(["true"])

    def write(self, identifier: str, name: str, data: bytes) -> None:
        self.box(identifier).files.write(f"/{name}", data)

    def fork(self, identifier: str, count: int) -> ForkedCopies:
        forks = self.box(identifier).fork(count)
        return ForkedCopies(time.perf_counter(), [self.kept(fork) for fork in forks])

    @contextlib.contextmanager
    def pool(self, size: int) -> Iterator[ReadySandboxes]:
        with self.warm(size) as pool:
            yield ReadySandboxes(
                lambda: pool.fill(timeout=PATIENCE_S),
                lambda: self.kept(pool.take(timeout=PATIENCE_S)),
            )


class LibraryOrlop(Orlop):
    """The client library, as `orlop run --rm` uses it: create, attach, start, output, removal."""

    title = "orlop run"

    def once(self) -> TimedStart:
        body = self.body(self.image.probe(), remove=True)
        with self.client() as client:
            return timed(self.image, lambda: _attached(client.containers, body))

    def execute(self, identifier: str) -> None:
        with self.client() as client:
            _, stream = client.execs.run(identifier, _TRUE)
            try:
                _output(stream)
            finally:
                stream.close()


def _attached(containers: Containers, body: dict[str, object]) -> bytes:
    identifier = containers.create(body)["Id"]
    attaching = containers.attach(identifier, streams=("stdout",))
    waiting = containers.wait(identifier, condition="removed")
    stream = attaching.stream()
    try:
        waiting.accepted()
        containers.start(identifier)
        output = _output(stream)
        waiting.exit_status()
    finally:
        stream.close()
        waiting.close()
    return output


def _output(stream: RawStream) -> bytes:
    """Return all that comes."""
    frames, output = Demultiplexer(), b""
    while data := stream.receive():
        output += b"".join(piece for _, piece in frames.feed(data))
    return output


def ways(settings: Settings, image: Image) -> list[BenchDriver]:
    """Return a driver for each way in which Orlop's sandboxes are started."""
    kinds = (RunnerOrlop, SandboxOrlop, LibraryOrlop)
    return [
        kind(settings, image, network=network) for network in ("none", "bridge") for kind in kinds
    ]
