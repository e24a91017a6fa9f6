"""Orlop's ways to start a sandbox; ways() has them all."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from orlop.benchmark.driver import IDLE, MEMORY_BYTES, PATIENCE_S, PIDS, Driver, Pool, Start, timed
from orlop.benchmark.image import REFERENCE, Image
from orlop.benchmark.load import each
from orlop.benchmark.shelf import Shelf
from orlop.client.address import Settings
from orlop.client.client import Client
from orlop.client.containers import Containers
from orlop.client.http import RawStream
from orlop.client.stream import Demultiplexer
from orlop.errors import NotFoundError
from orlop.sandbox.pool import Pool as SandboxPool
from orlop.sandbox.sandbox import Sandbox

_REMOVERS = 8
_TRUE = {"Cmd": ["true"], "Tty": False, "AttachStdout": True, "AttachStderr": True, "Group": True}


class AttachedOrlop(Driver):
    """The client library, as `orlop run --rm` uses it: create, attach, start, output, removal."""

    is_orlop = True

    def __init__(self, settings: Settings, image: Image, *, network: str) -> None:
        self.name = "orlop" if network == "none" else f"orlop, {network}"
        self.marks = (settings.run,)
        self._image = image
        self._network = network
        self._clients = Shelf(lambda: Client(settings))

    def _body(
        self, command: Sequence[str], *, cpus: float | None = None, remove: bool = False
    ) -> dict[str, object]:
        config = {
            "Memory": MEMORY_BYTES,
            "PidsLimit": PIDS,
            "NanoCpus": round((cpus or 0) * 1_000_000_000),
            "NetworkMode": self._network,
            "AutoRemove": remove,
        }
        return {
            "Image": REFERENCE,
            "Cmd": list(command),
            "AttachStdout": remove,
            "HostConfig": config,
        }

    def once(self) -> Start:
        body = self._body(self._image.probe(), remove=True)
        with self._clients.one() as client:
            return timed(self._image, lambda: _attached(client.containers, body))

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        with self._clients.one() as client:
            made = str(client.containers.create(self._body(command, cpus=cpus))["Id"])
            client.containers.start(made)
        return made

    def execute(self, identifier: str) -> None:
        with self._clients.one() as client:
            _, stream = client.execs.run(identifier, _TRUE)
            try:
                _output(stream)
            finally:
                stream.close()

    def remove(self, identifiers: Sequence[str]) -> None:
        def remove_one(identifier: str) -> None:
            with self._clients.one() as client, contextlib.suppress(NotFoundError):
                client.containers.remove(identifier, force=True, volumes=True)

        each(remove_one, identifiers, clients=_REMOVERS)

    def close(self) -> None:
        """Close its connections."""
        self._clients.empty(Client.close)


class DetachedOrlop(Driver):
    """`orlop.Sandbox`, which has the probe as its first process; nothing is attached."""

    is_orlop = True
    note = "has a bind mount, into which its program writes the time"

    def __init__(self, settings: Settings, image: Image, *, network: str, folder: Path) -> None:
        self.name = "orlop, detached" if network == "none" else f"orlop, {network}, detached"
        self.marks = (settings.run,)
        self._image = image
        self._network = network
        self._engine = str(settings.address)
        self._folder = folder / f"measure-{network}"
        self._folder.mkdir()
        self._numbers = itertools.count()
        self._clients = Shelf(lambda: Client(settings))
        self._boxes: dict[str, Sandbox] = {}

    def _box(
        self, command: Sequence[str], *, cpus: float | None = None, mounts: Sequence[str] = ()
    ) -> Sandbox:
        return Sandbox(
            image=REFERENCE,
            memory=MEMORY_BYTES,
            pids=PIDS,
            cpus=cpus,
            network=self._network,
            mounts=mounts,
            command=command,
            engine=self._engine,
        )

    def once(self) -> Start:
        name = f"time-{next(self._numbers)}"
        command, mounts = self._image.probe(f"/measure/{name}"), [f"{self._folder}:/measure"]
        box, file = self._box(command, mounts=mounts), self._folder / name
        with self._clients.one() as client:
            return timed(self._image, lambda: _detached(client.containers, box, file))

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        box = self._box(command, cpus=cpus).start()
        self._boxes[box.id] = box
        return box.id

    def execute(self, identifier: str) -> None:
        self._boxes[identifier].run(["true"])

    def fork(self, identifier: str, count: int) -> Sequence[str]:
        forks = {box.id: box for box in self._boxes[identifier].fork(count)}
        self._boxes |= forks
        return list(forks)

    @contextlib.contextmanager
    def pool(self, size: int) -> Iterator[Pool]:
        options = self._box(IDLE).given()

        def take() -> str:
            box = pool.take(timeout=PATIENCE_S)
            self._boxes[box.id] = box
            return box.id

        with SandboxPool(**options, size=size) as pool:
            yield Pool(lambda: pool.fill(timeout=PATIENCE_S), take)

    def remove(self, identifiers: Sequence[str]) -> None:
        each(lambda identifier: self._boxes.pop(identifier).close(), identifiers, clients=_REMOVERS)

    def close(self) -> None:
        """Close its connections, and sandboxes that are left."""
        self.remove(list(self._boxes))
        self._clients.empty(Client.close)


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


def _detached(containers: Containers, box: Sandbox, file: Path) -> bytes:
    with box, contextlib.suppress(NotFoundError):  # it has ended, and is gone
        containers.wait(box.id, condition="removed").exit_status()
    written = file.read_bytes()
    file.unlink()
    return written


def ways(settings: Settings, image: Image, folder: Path) -> list[Driver]:
    """Return a driver for each way in which Orlop's sandboxes are started."""
    made: list[Driver] = []
    for network in ("none", "bridge"):
        made.append(AttachedOrlop(settings, image, network=network))
        made.append(DetachedOrlop(settings, image, network=network, folder=folder))
    return made
