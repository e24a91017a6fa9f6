"""Images described in Python, and built by the engine where one is needed."""

import json
import os
import shlex
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TextIO

from orlop.client.address import settings
from orlop.client.client import Client
from orlop.client.packing import pack
from orlop.errors import CommandFailedError, InvalidArgumentError, NotFoundError, OrlopError
from orlop.sandbox.arguments import check_list, check_text, check_variables

_SHOWN = 2000  # characters of a failed command's output
_APT = (
    "--mount=type=cache,target=/var/cache/apt,sharing=locked"
    " --mount=type=cache,target=/var/lib/apt,sharing=locked"
)
_PIP = "--mount=type=cache,target=/root/.cache/pip"
_ESCAPED = str.maketrans({char: f"\\{char}" for char in "\\$\"'"})


class Image:
    """An image as a list of steps, each on what the ones before have made.

        image = orlop.Image.base("debian:13").apt("git").run("git init /work")
        with orlop.Sandbox(image=image) as box: …

    Every method returns another image; this one stays as it is. Nothing is built before
    build(), or before a sandbox needs it. The engine remembers each step by its inputs, so
    that another build of the same steps takes milliseconds.
    """

    def __init__(self, reference: str) -> None:
        """Begin with the image *reference*, which is pulled where it is missing, or "scratch"."""
        check_text("reference", reference)
        if not reference.strip() or set(reference) & set(" \t\r\n$"):
            raise InvalidArgumentError(f"no image can be called {reference!r}")
        self._lines: tuple[str, ...] = (f"FROM {reference}",)
        self._files: tuple[str, ...] = ()
        self._built: dict[str | None, str] = {}
        self._lock = threading.Lock()

    @classmethod
    def base(cls, reference: str) -> "Image":
        """Return the image *reference*, for more steps."""
        return cls(reference)

    @property
    def dockerfile(self) -> str:
        """The steps as a Dockerfile."""
        return "\n".join(self._lines) + "\n"

    def run(self, *commands: str) -> "Image":
        """Run each command with the image's shell."""
        check_list("commands", commands)
        return self._with(*(_run(command) for command in commands))

    def apt(self, *packages: str) -> "Image":
        """Install packages of Debian or Ubuntu. Downloads are kept for other builds."""
        check_list("packages", packages)
        words = " ".join(map(shlex.quote, packages))
        install = f"apt-get install -y --no-install-recommends {words}"
        variables = "DEBIAN_FRONTEND=noninteractive"
        return self._with(_run(f"apt-get update && {variables} {install}", _APT))

    def pip(self, *packages: str) -> "Image":
        """Install packages of Python with the image's pip. Downloads are kept for other builds."""
        check_list("packages", packages)
        words = " ".join(map(shlex.quote, packages))
        return self._with(_run(f"pip install --disable-pip-version-check {words}", _PIP))

    def copy(self, source: str, target: str) -> "Image":
        """Copy a file, or what is in a folder, of this machine to the path *target*."""
        check_text("source", source)
        check_text("target", target)
        place = f"files/{len(self._files)}"
        if not os.path.isdir(source):
            place += f"/{os.path.basename(source)}"
        line = f"COPY {json.dumps([place.translate(_ESCAPED), target.translate(_ESCAPED)])}"
        made = self._with(line)
        made._files = (*self._files, os.path.abspath(source))
        return made

    def environment(self, variables: Mapping[str, str]) -> "Image":
        """Set variables for later steps, and for what runs in the image."""
        check_variables(variables)
        return self._with(*(f"ENV {name}={_quoted(value)}" for name, value in variables.items()))

    def workdir(self, path: str) -> "Image":
        """Make the folder *path* where it is missing, and let everything begin there."""
        return self._with(f"WORKDIR {_quoted(path)}")

    def user(self, name: str) -> "Image":
        """Run later steps, and what runs in the image, as this user: a name or an id."""
        return self._with(f"USER {_quoted(name)}")

    def dockerfile_lines(self, *lines: str) -> "Image":
        """Add lines of a Dockerfile as they are."""
        check_list("lines", lines)
        return self._with(*lines)

    def build(
        self, *, tag: str | None = None, show: TextIO | None = None, engine: str | None = None
    ) -> str:
        """Build it and return its id.

        *tag* is a name for it. *show* gets the steps and what their commands write.

        Raises:
            CommandFailedError: a command failed; the end of what it wrote is in the message.
        """
        for path in self._files:
            if not os.path.lexists(path):
                raise NotFoundError(f"no file {path}")
        query = {"events": True, "t": [tag] if tag else []}
        with (
            Client(settings(host=engine)) as client,
            closing(client.builds.build(self._context(), query=query)) as messages,
        ):
            return _followed(messages, show)

    def reference(self, engine: str | None) -> str:
        """Return its id, and build it once."""
        with self._lock:
            if engine not in self._built:
                self._built[engine] = self.build(engine=engine)
            return self._built[engine]

    def _with(self, *lines: str) -> "Image":
        made = Image.__new__(type(self))
        made._lines, made._files = (*self._lines, *lines), self._files
        made._built, made._lock = {}, threading.Lock()
        return made

    def _context(self) -> Iterator[bytes]:
        yield _member("Dockerfile", self.dockerfile.encode())
        for number, path in enumerate(self._files):
            name = f"files/{number}"
            if not os.path.isdir(path):
                name += f"/{os.path.basename(path)}"
            yield from _without_end(pack(path, name=name))
        yield bytes(2 * tarfile.BLOCKSIZE)


def _run(command: str, flags: str = "") -> str:
    return f"RUN {flags} {json.dumps(['/bin/sh', '-c', command])}"


def _quoted(value: str) -> str:
    check_text("value", value)
    if "\n" in value or "\r" in value:
        raise InvalidArgumentError(f"a value of an image has one line: {value[:100]!r}")
    return f'"{value.translate(_ESCAPED)}"'.replace("\\'", "'")


def _member(name: str, data: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf() + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _without_end(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out the last piece, which ends an archive."""
    held = next(pieces, None)
    for piece in pieces:
        assert held is not None
        yield held
        held = piece


def _followed(messages: Iterator[dict[str, object]], show: TextIO | None) -> str:
    image, tail = "", ""
    for message in messages:
        if "error" in message:
            raise _failure(message, tail)
        aux, event = message.get("aux"), message.get("build")
        if isinstance(aux, dict):
            image = str(aux["ID"])
        if isinstance(event, dict):
            text = str(event.get("text", ""))
            is_output = event["kind"] == "output"
            tail = (tail + text)[-_SHOWN:] if is_output else ""
            if show is not None and (is_output or event["kind"] == "step"):
                show.write(text if is_output else f"{text}\n")
    return image


def _failure(message: Mapping[str, object], tail: str) -> OrlopError:
    detail = message.get("errorDetail")
    text = str(message["error"])
    if isinstance(detail, dict) and "code" in detail:
        wrote = f"; it wrote: {tail.strip()}" if tail.strip() else ""
        return CommandFailedError(text + wrote, code=int(detail["code"]))
    return OrlopError(text)
