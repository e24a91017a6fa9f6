"""The verbs of containers. Bodies and answers: Docker Engine API 1.45, "Container"."""

from __future__ import annotations

from orlop.client.calls import finish_upgrade, quote
from orlop.errors import NotFoundError
from orlop.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from orlop.client import http
    from orlop.client.calls import Caller
    from orlop.model.timeline import Step

    Filters = Mapping[str, list[str]]


class Waiting:
    """A wait that the engine has taken up; exit_status() blocks until it is over."""

    def __init__(self, connection: http.Connection) -> None:
        self._connection = connection
        self._response: http.Response | None = None

    def accepted(self) -> None:
        """Return once the engine watches the container: what exits from now on is not missed."""
        from orlop.client.http import check

        self._response = check(self._connection.receive())

    def exit_status(self) -> tuple[int, str]:
        """Return the exit code and the engine's error, "" for none."""
        if self._response is None:
            self.accepted()
        assert self._response is not None
        # The first line is the whole answer; the end of the stream behind it can be late.
        answer = jsontext.loads(next(self._response.lines(), b""))
        self._connection.close()
        if "error" in answer:  # it was removed between our question and the wait's begin
            raise NotFoundError(str(answer["error"]))
        return int(answer["StatusCode"]), str((answer.get("Error") or {}).get("Message") or "")

    def close(self) -> None:
        """Stop waiting."""
        self._connection.close()


class Attaching:
    """An attach that is under way; stream() waits until the engine has taken it up."""

    def __init__(self, connection: http.Connection) -> None:
        self._connection = connection

    def stream(self) -> http.RawStream:
        """Return the raw stream; what the container writes from now on comes through it."""
        return finish_upgrade(self._connection)


class Containers:
    """All by id, unique beginning of an id, or name."""

    def __init__(self, client: Caller) -> None:
        self._client = client

    def create(
        self, body: Mapping[str, Any], *, name: str | None = None, platform: str | None = None
    ) -> dict[str, Any]:
        """Create a container; NotFoundError if its image is not here."""
        answer: dict[str, Any] = self._client.call(
            "POST", "/containers/create", query={"name": name, "platform": platform}, body=body
        )
        return answer

    def start(self, name: str, *, detach_keys: str | None = None) -> None:
        self._post(name, "start", detachKeys=detach_keys)

    def stop(self, name: str, *, timeout_s: int | None = None, signal: str | None = None) -> None:
        self._post(name, "stop", t=timeout_s, signal=signal)

    def restart(
        self, name: str, *, timeout_s: int | None = None, signal: str | None = None
    ) -> None:
        self._post(name, "restart", t=timeout_s, signal=signal)

    def kill(self, name: str, *, signal: str | None = None) -> None:
        self._post(name, "kill", signal=signal)

    def pause(self, name: str) -> None:
        self._post(name, "pause")

    def unpause(self, name: str) -> None:
        self._post(name, "unpause")

    def rename(self, name: str, *, to: str) -> None:
        self._client.call("POST", f"/containers/{quote(name)}/rename", query={"name": to})

    def resize(self, name: str, *, height: int, width: int) -> None:
        self._post(name, "resize", h=height, w=width)

    def _post(self, name: str, verb: str, **query: str | int | None) -> None:
        self._client.call("POST", f"/containers/{quote(name)}/{verb}", query=query)

    def remove(
        self, name: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        query = {"force": force, "v": volumes, "link": link}
        self._client.call("DELETE", f"/containers/{quote(name)}", query=query)

    def update(self, name: str, body: Mapping[str, Any]) -> list[str]:
        """Change limits or the restart policy; return the engine's warnings."""
        answer = self._client.call("POST", f"/containers/{quote(name)}/update", body=body)
        return list((answer or {}).get("Warnings") or [])

    def list(
        self,
        *,
        all_states: bool = False,
        limit: int | None = None,
        size: bool = False,
        filters: Filters | None = None,
    ) -> list[dict[str, Any]]:
        query = {"all": all_states, "limit": limit, "size": size, "filters": filters}
        found: list[dict[str, Any]] = self._client.call("GET", "/containers/json", query=query)
        return found

    def inspect(self, name: str, *, size: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call(
            "GET", f"/containers/{quote(name)}/json", query={"size": size}
        )
        return found

    def top(self, name: str, *, ps_args: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call(
            "GET", f"/containers/{quote(name)}/top", query={"ps_args": ps_args}
        )
        return found

    def timeline(self, name: str) -> Sequence[Step]:
        """Return the engine's steps about a container made with ?timeline=1, even if it is gone."""
        from orlop.model.timeline import steps_of  # rare

        answer = self._client.call("GET", f"/containers/{quote(name)}/timeline")
        return steps_of(answer["Steps"])

    def changes(self, name: str) -> Iterable[dict[str, Any]]:
        found: Iterable[dict[str, Any]] | None = self._client.call(
            "GET", f"/containers/{quote(name)}/changes"
        )
        return found or []

    def prune(self, *, filters: Filters | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.call(
            "POST", "/containers/prune", query={"filters": filters}
        )
        return answer

    def stats(self, name: str, *, stream: bool, one_shot: bool = False) -> Iterator[dict[str, Any]]:
        """Yield statistics: one, or one a second for as long as it runs."""
        # "false" is spelled out, for streaming is this endpoint's default.
        query = {"stream": "true" if stream else "false", "one-shot": one_shot}
        return self._client.messages("GET", f"/containers/{quote(name)}/stats", query=query)

    def logs(self, name: str, *, query: Mapping[str, str | bool | None]) -> http.Response:
        """Open the log: framed (see orlop.client.stream), or raw if it is a terminal's."""
        return self._client.open("GET", f"/containers/{quote(name)}/logs", query=query)

    def attach(
        self,
        name: str,
        *,
        streams: Iterable[str] = ("stdin", "stdout", "stderr"),
        logs: bool = False,
        detach_keys: str | None = None,
    ) -> Attaching:
        """Ask for the container's streams; it need not run yet."""
        query: dict[str, str | bool | None] = dict.fromkeys(streams, True)
        query |= {"stream": True, "logs": logs, "detachKeys": detach_keys}
        return Attaching(
            self._client.begin_upgrade(f"/containers/{quote(name)}/attach", query=query)
        )

    def wait(self, name: str, *, condition: str = "not-running") -> Waiting:
        """Ask for the exit status under *condition*: not-running, next-exit or removed."""
        return Waiting(
            self._client.begin(
                "POST", f"/containers/{quote(name)}/wait", query={"condition": condition}
            )
        )

    def export(self, name: str) -> Iterator[bytes]:
        """The root file system as a tar stream."""
        return iter(self._client.open("GET", f"/containers/{quote(name)}/export"))

    def archive_stat(self, name: str, path: str) -> dict[str, Any] | None:
        """What *path* in the container is (name, size, mode, linkTarget); None if there is none."""
        from binascii import a2b_base64

        from orlop.client import http

        connection = self._client.connection()
        try:
            target = f"/v1.45/containers/{quote(name)}/archive?path={quote(path)}"
            connection.send("HEAD", target)
            status, headers = connection.receive_head()
        finally:
            connection.close()
        if "x-docker-container-path-stat" in headers:
            found: dict[str, Any] = jsontext.loads(
                a2b_base64(headers["x-docker-container-path-stat"])
            )
            return found
        if status == 404:
            self.inspect(name)  # raises if it is the container that is not there
            return None
        raise http.error_of(status, b"")

    def archive_get(self, name: str, path: str) -> Generator[bytes, None, None]:
        """*path* in the container as a tar stream, asked for at once."""
        query = {"path": path}
        answer = self._client.open("GET", f"/containers/{quote(name)}/archive", query=query)
        return _pieces(answer)

    def archive_put(
        self,
        name: str,
        path: str,
        tar: Iterable[bytes],
        *,
        copy_uid_gid: bool = False,
        user: str | None = None,
    ) -> None:
        """Unpack a tar stream in the folder *path* of the container.

        All of it is *user*'s then, "" for whom its commands run as; None: as the tar says.
        """
        query: dict[str, str | bool | list[str]] = {"path": path, "noOverwriteDirNonDir": True}
        query["copyUIDGID"] = copy_uid_gid
        if user is not None:
            query["user"] = [user]  # a list, for else it is left out where it is empty
        response = self._client.open(
            "PUT",
            f"/containers/{quote(name)}/archive",
            query=query,
            body=tar,
            headers={"Content-Type": "application/x-tar"},
        )
        response.read()
        response.close()


def _pieces(response: http.Response) -> Generator[bytes, None, None]:
    """Give the body; the connection goes with the generator."""
    try:
        yield from response
    finally:
        response.close()
