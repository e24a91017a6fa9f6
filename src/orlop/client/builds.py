"""The verbs of builds, and the context that they send."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile

from orlop.build.ignore import Ignore
from orlop.client.credentials import config_header
from orlop.client.packing import contents
from orlop.errors import InvalidArgumentError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from typing import Any

    from orlop.client.calls import Caller

_MOST_SECRET_BYTES = 32 << 10  # they travel in a header
_OUTSIDE = ".dockerfile-of-the-client"


class Builds:
    """Messages are Docker's; with events=1 in the query each may have Orlop's, as "build"."""

    def __init__(self, client: Caller) -> None:
        self._client = client

    def build(
        self, context: Iterator[bytes], *, query: Mapping[str, Any], secrets: str = ""
    ) -> Generator[dict[str, Any]]:
        """Build, yielding messages; *secrets* is what secrets_header() has made."""
        headers = {"Content-Type": "application/x-tar"}
        if config := config_header():
            headers["X-Registry-Config"] = config
        if secrets:
            headers["X-Orlop-Build-Secrets"] = secrets
        return self._client.messages("POST", "/build", query=query, body=context, headers=headers)

    def prune(self, *, everything: bool, filters: dict[str, list[str]]) -> dict[str, Any]:
        """Remove what the cache need not keep."""
        query: dict[str, Any] = {"all": everything, "filters": filters}
        answer: dict[str, Any] = self._client.call("POST", "/build/prune", query=query)
        return answer


class Context:
    """A folder to be sent, and the name of the Dockerfile in it."""

    def __init__(self, folder: str, file: str) -> None:
        self._folder = os.path.realpath(folder)
        self._outside = ""
        path = os.path.realpath(file or os.path.join(folder, "Dockerfile"))
        if not os.path.isfile(path):
            raise NotFoundError(f"no Dockerfile {file or path}")
        inside = os.path.relpath(path, self._folder)
        if inside == os.pardir or inside.startswith(os.pardir + os.sep):
            self._outside, inside = path, _OUTSIDE
        self.dockerfile = inside
        self._ignore = Ignore(_ignored(self._folder, path))

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar of all that .dockerignore lets through, and of the Dockerfile."""
        with tarfile.TarFile(fileobj=io.BytesIO(), mode="w") as archive:
            for path, name in self._files():
                header = archive.gettarinfo(path, arcname=name)
                if header is None:  # a socket
                    continue
                yield header.tobuf(tarfile.PAX_FORMAT)
                if header.isreg():
                    with open(path, "rb") as file:
                        yield from contents(file, header.size, what=path)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _files(self) -> Iterator[tuple[str, str]]:
        if self._outside:
            yield self._outside, _OUTSIDE
        pending = [""]
        while pending:
            parent = pending.pop()
            for name in sorted(os.listdir(os.path.join(self._folder, parent))):
                inside = os.path.join(parent, name)
                path = os.path.join(self._folder, inside)
                is_folder = os.path.isdir(path) and not os.path.islink(path)
                is_out = self._ignore.leaves_out(inside) and inside != self.dockerfile
                if is_folder and (not is_out or self._holds_more(inside)):
                    pending.append(inside)
                if not is_out:
                    yield path, inside

    def _holds_more(self, folder: str) -> bool:
        """Whether something in a folder that is left out may be sent."""
        return self._ignore.may_keep or self.dockerfile.startswith(folder + os.sep)


def _ignored(folder: str, dockerfile: str) -> str:
    """Return the text of the Dockerfile's own .dockerignore, or else of the folder's."""
    for path in (f"{dockerfile}.dockerignore", os.path.join(folder, ".dockerignore")):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            continue
    return ""


def secrets_header(words: list[str]) -> str:
    """Return the header's value for secrets as --secret has them: id=ID,src=FILE or env=NAME."""
    found: dict[str, str] = {}
    for word in words:
        given = dict(part.partition("=")[::2] for part in word.split(","))
        name = given.get("id", "")
        if not name or given.keys() - {"id", "src", "source", "env", "type"}:
            raise InvalidArgumentError(
                f"--secret {word}: expected id=ID,src=FILE or id=ID,env=NAME"
            )
        found[name] = base64.b64encode(_secret(given, name)).decode()
    text = base64.urlsafe_b64encode(json.dumps(found).encode()).decode() if found else ""
    if len(text) > _MOST_SECRET_BYTES:
        raise InvalidArgumentError(f"the secrets are larger than {_MOST_SECRET_BYTES >> 10} KiB")
    return text


def _secret(given: Mapping[str, str], name: str) -> bytes:
    path = given.get("src") or given.get("source") or ""
    if not path:
        variable = given.get("env") or name
        if variable not in os.environ:
            raise NotFoundError(f"secret {name}: the variable {variable} is not set")
        return os.environb[os.fsencode(variable)]
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_SECRET_BYTES + 1)
    except OSError as error:
        raise NotFoundError(f"secret {name}: {path}: {error.strerror}") from None
