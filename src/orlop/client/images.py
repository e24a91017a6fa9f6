"""The verbs of images. Bodies and answers: Docker Engine API 1.45, "Image"."""

from __future__ import annotations

from orlop.client.calls import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from orlop.client.calls import Caller

    Filters = Mapping[str, list[str]]


class Images:
    """By reference or id. Progress is Docker's messages: status, id, progressDetail, error."""

    def __init__(self, client: Caller) -> None:
        self._client = client

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        auth: str | None = None,
        all_tags: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Pull, yielding progress; *auth* is the value of X-Registry-Auth."""
        name, _, digest = reference.partition("@")
        repository, tag = split_tag(name)
        wanted = None if all_tags else digest or tag or "latest"
        query = {"fromImage": repository, "tag": wanted, "platform": platform}
        headers = {"X-Registry-Auth": auth} if auth else {}
        return self._client.messages("POST", "/images/create", query=query, headers=headers)

    def push(
        self, reference: str, *, auth: str | None = None, platform: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Push, yielding progress."""
        repository, tag = split_tag(reference)
        # The header must be there even when there is nothing to say: "{}" in base64url.
        headers = {"X-Registry-Auth": auth or "e30="}
        query = {"tag": tag or "latest", "platform": platform}
        path = f"/images/{quote(repository)}/push"
        return self._client.messages("POST", path, query=query, headers=headers)

    def import_(
        self,
        source: Iterable[bytes] | str,
        *,
        reference: str,
        message: str | None = None,
        changes: list[str] | None = None,
        platform: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Make an image of one tar stream (or of what a URL gives)."""
        repository, tag = split_tag(reference)
        query = {
            "fromSrc": source if isinstance(source, str) else "-",
            "repo": repository,
            "tag": tag,
            "message": message,
            "changes": changes,
            "platform": platform,
        }
        body = None if isinstance(source, str) else source
        return self._client.messages("POST", "/images/create", query=query, body=body)

    def load(self, archive: Iterable[bytes], *, quiet: bool = False) -> Iterator[dict[str, Any]]:
        """Load the images of an archive, yielding progress."""
        headers = {"Content-Type": "application/x-tar"}
        query = {"quiet": quiet}
        return self._client.messages(
            "POST", "/images/load", query=query, body=archive, headers=headers
        )

    def save(self, references: list[str]) -> Iterator[bytes]:
        """The images as an archive that docker load and OCI tools read."""
        return iter(self._client.open("GET", "/images/get", query={"names": references}))

    def tag(self, source: str, *, repository: str, tag: str) -> None:
        query = {"repo": repository, "tag": tag}
        self._client.call("POST", f"/images/{quote(source)}/tag", query=query)

    def remove(
        self, reference: str, *, force: bool = False, prune: bool = True
    ) -> list[dict[str, str]]:
        """Remove a name, and the image with its last one; return what was untagged and deleted."""
        query = {"force": force, "noprune": not prune}
        removed: list[dict[str, str]] = self._client.call(
            "DELETE", f"/images/{quote(reference)}", query=query
        )
        return removed or []

    def inspect(self, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call("GET", f"/images/{quote(reference)}/json")
        return found

    def history(self, reference: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.call(
            "GET", f"/images/{quote(reference)}/history"
        )
        return found

    def prune(self, *, filters: Filters | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.call(
            "POST", "/images/prune", query={"filters": filters}
        )
        return answer

    def commit(self, container: str, *, query: Mapping[str, Any]) -> str:
        """Make an image of what a container has changed; return its id."""
        answer = self._client.call(
            "POST", "/commit", query={"container": container, **query}, body={}
        )
        return str(answer["Id"])

    def list(
        self, *, all_images: bool = False, digests: bool = False, filters: Filters | None = None
    ) -> list[dict[str, Any]]:
        query = {"all": all_images, "digests": digests, "filters": filters}
        found: list[dict[str, Any]] = self._client.call("GET", "/images/json", query=query)
        return found


def split_tag(reference: str) -> tuple[str, str]:
    """Split NAME[:TAG]; a colon before the last slash is a port. Tag "" if there is none."""
    slash = reference.rfind("/")
    colon = reference.find(":", slash + 1)
    return (reference, "") if colon < 0 else (reference[:colon], reference[colon + 1 :])
