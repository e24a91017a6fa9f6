"""The usual way: a sandbox is a container, a command an exec, and both are asked for over HTTP."""

import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from math import inf
from typing import Any, TypeVar

from orlop.client.address import Settings
from orlop.client.client import Client
from orlop.client.http import RawStream
from orlop.client.images import split_tag
from orlop.client.timed import TimedClient
from orlop.errors import (
    ImageNotFoundError,
    NotFoundError,
    NotRunningError,
    OrlopError,
)
from orlop.model import jsontext
from orlop.model.timeline import Step
from orlop.sandbox.interrupt import current
from orlop.sandbox.options import IDLE, Options
from orlop.sandbox.result import Usage
from orlop.sandbox.way import Box, Command, Handle
from orlop.sandbox.ways.execs import ExecHandle, usage_of

T = TypeVar("T")

_ANY = ("", "0.0.0.0", "::")


class ContainerWay:
    """See Way."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self, options: Options) -> Box:
        with _client(self._settings, options) as client:
            return with_image(
                self._settings, options.reference, lambda: self._open(client, options)
            )

    def start_many(self, options: Options, count: int) -> list[Box]:
        with ExitStack() as undo:
            boxes = []
            for _ in range(count):
                boxes.append(self.start(options))
                undo.callback(boxes[-1].close)
            undo.pop_all()
        return boxes

    def close_many(self, boxes: Sequence[Box]) -> None:
        with ExitStack() as stack:
            for box in boxes:
                stack.callback(box.close)

    def _open(self, client: Client, options: Options) -> Box:
        body = _body(options)
        name, lifetime_s = options.name, options.lifetime
        ends_s = inf if lifetime_s is None else time.monotonic() + lifetime_s
        if options.keep:
            made = client.sandboxes.open_kept(body, name=name, lifetime_s=lifetime_s)
            return ContainerBox(self._settings, made, None, ends_s=ends_s)
        opened = client.sandboxes.open(body, name=name, lifetime_s=lifetime_s)
        return ContainerBox(self._settings, *opened, ends_s=ends_s)


class ContainerBox:
    """See Box. While *holder* is open the engine keeps the container; None: it stays anyway."""

    def __init__(
        self,
        settings: Settings,
        identifier: str,
        holder: RawStream | None,
        *,
        ends_s: float = inf,  # as time.monotonic() has it
    ) -> None:
        self._settings = settings
        self._id = identifier
        self._holder = holder
        self._ends_s = ends_s
        self._closed = holder is None
        if holder is not None:
            weakref.finalize(self, holder.close)

    @property
    def id(self) -> str:
        return self._id

    @property
    def watched(self) -> int:
        return -1 if self._holder is None else self._holder.fileno()

    def close(self) -> None:
        if self._closed:
            return
        try:
            with suppress(NotFoundError), Client(self._settings) as client:  # it may have ended
                client.containers.remove(self.id, force=True, volumes=True)
            self._closed = True
        finally:
            if self._holder is not None:
                self._holder.close()

    def exec(self, command: Command) -> Handle:
        try:
            return ExecHandle(self._settings, self.id, command, ends_s=self._ends_s)
        except (NotFoundError, NotRunningError) as error:
            raise self._ended() from error

    def _ended(self) -> NotFoundError:
        return NotFoundError(f"no sandbox {self.id[:12]}: it has ended")

    @contextmanager
    def _asking(self, path: str = "", *, client: Client | None = None) -> Iterator[Client]:
        """Yield a client whose errors speak of the sandbox, not of a container.

        *path* is what the request is about.
        """
        try:
            with client or Client(self._settings) as asked:
                yield asked
        except NotFoundError as error:
            if str(error).startswith("No such container"):
                raise self._ended() from error
            if path and str(error).startswith("Could not find the file"):
                raise NotFoundError(f"no file or folder {path} in the sandbox") from error
            raise

    def pause(self) -> None:
        with self._asking() as client:
            client.containers.pause(self.id)

    def resume(self) -> None:
        with self._asking() as client:
            client.containers.unpause(self.id)

    def snapshot(self, name: str) -> str:
        repository, tag = split_tag(name)
        with self._asking() as client:
            query = {"repo": repository, "tag": tag or "latest"}
            changes = _changes(client, client.containers.inspect(self.id))
            return client.images.commit(self.id, query={**query, "changes": changes})

    def fork(self, options: Options, count: int, *, processes: bool) -> list[Box]:
        with self._asking(client=_client(self._settings, options)) as client:
            made = client.sandboxes.fork(
                self.id,
                _body(options),
                count=count,
                keep=options.keep,
                processes=processes,
                lifetime_s=options.lifetime,
            )
            if options.keep:
                return [ContainerBox(self._settings, fork, None) for fork in made]
            held = [(fork, client.sandboxes.hold(fork)) for fork in made]
        return [ContainerBox(self._settings, fork, holder) for fork, holder in held]

    def read_tar(self, path: str) -> Generator[bytes, None, None]:
        with self._asking(path) as client:
            return client.containers.archive_get(self.id, path)

    def write_tar(self, folder: str, tar: Iterable[bytes], *, user: str) -> None:
        with self._asking(folder) as client:
            client.containers.archive_put(self.id, folder, tar, user=user)

    def usage(self) -> Usage:
        with self._asking() as client:
            return usage_of(client.sandboxes.usage(self.id))

    def timeline(self) -> Sequence[Step]:
        with self._asking() as client:
            return client.containers.timeline(self.id)

    def address(self, port: int) -> tuple[str, int]:
        with self._asking() as client:
            found = client.containers.inspect(self.id)
        return _address(found, port)


def _client(settings: Settings, options: Options) -> Client:
    """Return one that asks for the steps of what is started, if they are wanted."""
    return TimedClient(settings) if options.timed else Client(settings)


def _body(options: Options) -> dict[str, Any]:
    """Return the body of the create request; a container's files are on a disk of its own size."""
    body = options.body()
    if options.disk_bytes is not None:
        body["HostConfig"]["StorageOpt"] = {"size": str(options.disk_bytes)}
    return body


def _changes(client: Client, container: Mapping[str, Any]) -> list[str]:
    """Return what a snapshot changes of *container*'s configuration: IDLE is not its user's."""
    config = container["Config"]
    if (*(config["Entrypoint"] or ()), *(config["Cmd"] or ())) != IDLE:
        return []
    own: Mapping[str, Any] = {}
    with suppress(NotFoundError):  # the image was removed meanwhile
        own = client.images.inspect(container["Image"])["Config"]
    return [
        f"{word.upper()} {jsontext.dumps(own.get(word) or [])}" for word in ("Entrypoint", "Cmd")
    ]


def with_image(settings: Settings, image: str, start: Callable[[], T]) -> T:
    """Return what *start* does, once more with the image pulled where it is missing."""
    try:
        return start()
    except ImageNotFoundError:
        with Client(settings) as client:
            _pull(client, image)
    return start()


def _pull(client: Client, image: str) -> None:
    """Fetch *image*; NotFoundError where it cannot be, and other errors, with its name."""
    with current().ending(client.shut):
        try:
            for message in client.images.pull(image):
                if "error" in message:
                    raise NotFoundError(message["error"])
        except OrlopError as error:
            raise type(error)(f"cannot pull {image}: {error.args[0]}", hint=error.hint) from error


def _address(container: Mapping[str, Any], port: int) -> tuple[str, int]:
    """Return where its TCP *port* is reached, by what an inspection says of its network."""
    if container["HostConfig"]["NetworkMode"] == "host":
        return "127.0.0.1", port
    network = container["NetworkSettings"]
    for published in network["Ports"].get(f"{port}/tcp") or ():
        host = published["HostIp"]
        return ("127.0.0.1" if host in _ANY else host), int(published["HostPort"])
    raise NotFoundError(f"port {port} of the sandbox is not published", hint=f"ports=[{port}]")
