"""A repository in a registry: its manifests, blobs and tags. OCI distribution spec 1.1."""

import http.client
from collections.abc import Callable, Iterator, Sequence
from typing import Self, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from orlop.errors import CorruptError, NotFoundError, OrlopError, UnavailableError, UnsupportedError
from orlop.images.auth import Credentials, refused
from orlop.images.exchange import BROKEN, Exchange, Patience, explain, is_passing
from orlop.images.hosts import CONFIG_FOLDERS, Endpoint, endpoints
from orlop.images.pace import Pace
from orlop.images.transport import Answer, Request, Transport
from orlop.model.digest import Digest, parse_digest
from orlop.model.image import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_DOCUMENT_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    digest_of,
    media_type_of,
)
from orlop.model.reference import Reference

_ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST, "*/*;q=0.5"))
_SCHEMA_1 = frozenset(
    f"application/vnd.docker.distribution.manifest.v1+{kind}" for kind in ("json", "prettyjws")
)
_MAX_PAGES = 1000
T = TypeVar("T")


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A repository and how to reach it; a plain value, to be sent to a worker."""

    repository: str  # path, without the host
    endpoints: tuple[Endpoint, ...]  # in the order in which to ask them
    credentials: Credentials | None = None


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct):
    errors: list[_Problem] | None = None


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


def source_of(
    reference: Reference,
    credentials: Credentials | None = None,
    *,
    folders: Sequence[str] = CONFIG_FOLDERS,
) -> Source:
    """Return the source of *reference*, as configured in the certs.d *folders*."""
    return Source(
        repository=reference.path,
        endpoints=endpoints(reference.domain, folders),
        credentials=credentials,
    )


class Registry:
    """One repository, through its mirrors and its server. Thread-safe; close() it."""

    def __init__(
        self,
        source: Source,
        *,
        patience: Patience = Patience(),  # noqa: B008 (a tuple)
        timeout_s: float = 30.0,
        pace: Pace = Pace(),  # noqa: B008 (a tuple)
    ) -> None:
        self.source = source
        self._transport = Transport(timeout_s=timeout_s, pace=pace)
        self._exchanges = [
            Exchange(endpoint, source.credentials, self._transport, patience)
            for endpoint in source.endpoints
        ]

    @property
    def host(self) -> str:
        """The host in the reference, for messages."""
        return self._exchanges[-1].endpoint.host

    @property
    def server(self) -> Exchange:
        """The endpoint for pushes; UnavailableError if the configuration allows none."""
        for exchange in self._exchanges:
            if exchange.endpoint.can("push"):
                return exchange
        raise UnavailableError(f"no registry for {self.host} may be pushed to")

    @property
    def patience(self) -> Patience:
        return self._exchanges[-1].patience

    def close(self) -> None:
        self._transport.close()

    def break_off(self) -> None:
        """Abort the waits of other threads: they get UnavailableError."""
        self._transport.break_off()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scope(self, actions: str = "pull") -> str:
        return f"repository:{self.source.repository}:{actions}"

    def path(self, rest: str) -> str:
        return f"/{self.source.repository}/{rest}"

    def called(self, target: str) -> str:
        """Return the full name of a tag or digest here, for messages."""
        return f"{self.host}/{self.source.repository}{'@' if ':' in target else ':'}{target}"

    def ping(self) -> None:
        """Check that the server is a registry and grants access. Errors as manifest()."""
        exchange = self._exchanges[-1]
        with exchange.send(Request("GET", f"{exchange.endpoint.url}/"), scope="") as answer:
            if answer.status != 200:
                raise self.problem(answer, exchange)

    def manifest(self, target: str) -> tuple[Descriptor, bytes]:
        """Return a manifest or index by tag or digest; a digest is verified.

        NotFoundError, PermissionDeniedError, UnavailableError, CorruptError.
        """

        def ask(exchange: Exchange) -> tuple[Descriptor, bytes]:
            request = self._manifest_request("GET", target, exchange)
            with exchange.send(request, scope=self.scope()) as answer:
                if answer.status != 200:
                    raise self.problem(answer, exchange, self.called(target))
                data = answer.read(MAX_DOCUMENT_BYTES)
                said = answer.headers.get_content_type()
            return self._described(target, data, said), data

        return self._first("resolve", ask)

    def head(self, target: str) -> Descriptor | None:
        """Return manifest()'s descriptor without the bytes; None if missing or unknown."""

        def ask(exchange: Exchange) -> Descriptor | None:
            request = self._manifest_request("HEAD", target, exchange)
            with exchange.send(request, scope=self.scope()) as answer:
                digest = answer.headers.get("Docker-Content-Digest")
                size = answer.headers.get("Content-Length", "")
                if answer.status != 200 or not digest or not size.isdigit():
                    return None
                kind = answer.headers.get_content_type()
                return Descriptor(media_type=kind, digest=parse_digest(digest), size=int(size))

        return self._first("resolve", ask)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the server has the blob in this repository."""
        exchange = self.server
        request = Request("HEAD", exchange.url(self.path(f"blobs/{digest}")))
        with exchange.send(request, scope=self.scope("pull,push")) as answer:
            return answer.status == 200

    def open_blob(self, digest: Digest, *, offset: int = 0) -> tuple[Answer, int]:
        """Return the blob's bytes, and their start: *offset*, or 0 if the server cannot seek.

        The caller closes the answer. Errors as manifest().
        """

        def ask(exchange: Exchange) -> tuple[Answer, int]:
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            request = Request("GET", exchange.url(self.path(f"blobs/{digest}")), headers)
            answer = exchange.send(request, scope=self.scope())
            if answer.status == 206:
                return answer, _range_start(answer, offset)
            if answer.status == 200:
                return answer, 0
            with answer:
                raise self.problem(answer, exchange, f"blob {digest}")

        return self._first("pull", ask)

    def tags(self) -> Iterator[str]:
        """Yield the repository's tags."""
        exchange = self._exchanges[-1]
        request: Request | None = Request("GET", exchange.url(self.path("tags/list")))
        for _ in range(_MAX_PAGES):
            if request is None:
                return
            with exchange.send(request, scope=self.scope()) as answer:
                if answer.status != 200:
                    raise self.problem(answer, exchange, self.source.repository)
                page = decode(answer, _Tags)
                request = _next_page(exchange, request, answer.headers.get("Link"))
            yield from page.tags or ()

    def problem(self, answer: Answer, exchange: Exchange, what: str = "") -> OrlopError:
        """Return the error for a failed *answer*; reads its body."""
        host = exchange.endpoint.host
        said = _said(answer)
        if answer.status in (401, 403):
            return refused(host, anonymous=not self.source.credentials, what=what)
        if answer.status == 404:
            return NotFoundError(f"{what or host} does not exist{f': {said}' if said else ''}")
        return UnavailableError(
            f"registry {host} answered {answer.status}{f': {said}' if said else ''}"
        )

    def _first(self, capability: str, ask: Callable[[Exchange], T]) -> T:
        """Ask one endpoint after the other; if all fail, raise the last one's error."""
        able = [one for one in self._exchanges if one.endpoint.can(capability)]
        for exchange in able[:-1]:
            try:
                found = _steadily(exchange, ask)
            except OrlopError:
                continue  # a mirror is an optimisation: the next endpoint may know it
            if found is not None:
                return found
        if not able:
            raise UnavailableError(f"no registry for {self.host} may be asked")
        return _steadily(able[-1], ask)

    def _manifest_request(self, method: str, target: str, exchange: Exchange) -> Request:
        path = self.path(f"manifests/{quote(target, safe=':')}")
        return Request(method, exchange.url(path), {"Accept": _ACCEPT})

    def _described(self, target: str, data: bytes, said: str) -> Descriptor:
        if said in _SCHEMA_1:
            raise UnsupportedError(
                f"{self.host}{self.path(target)} is of Docker's schema 1, which is no longer used"
            )
        digest = digest_of(data)
        if ":" in target and digest != target:
            raise CorruptError(f"{self.host} sent {digest} for {target}")
        known = said in INDEX_TYPES | MANIFEST_TYPES
        kind = said if known else media_type_of(data)
        return Descriptor(media_type=kind, digest=digest, size=len(data))


def _steadily(exchange: Exchange, ask: Callable[[Exchange], T]) -> T:
    """Ask again if the connection broke in the middle of an answer."""
    for wait_s in exchange.patience.waits():
        try:
            return ask(exchange)
        except BROKEN as error:
            if not is_passing(error):
                raise explain(exchange.endpoint.host, error) from error
            exchange.patience.sleep(wait_s)
    try:
        return ask(exchange)
    except BROKEN as error:
        raise explain(exchange.endpoint.host, error) from error


def decode(answer: Answer, cls: type[T]) -> T:
    """Return the JSON in *answer*; CorruptError if it is not JSON."""
    try:
        return msgspec.json.decode(answer.read(MAX_DOCUMENT_BYTES), type=cls)
    except (msgspec.DecodeError, RecursionError, http.client.HTTPException) as error:
        raise CorruptError(f"the registry's answer is not valid: {error}") from error


def _said(answer: Answer) -> str:
    """Return the first message of an error body, sanitized; "" if it has none."""
    try:
        data = answer.read(1 << 16)
        problems = msgspec.json.decode(data, type=_Problems).errors or [_Problem()]
    except (msgspec.DecodeError, RecursionError, CorruptError, http.client.HTTPException, OSError):
        return ""
    text = problems[0].message or problems[0].code
    return "".join(letter for letter in text if letter.isprintable())[:200].lower()


def _range_start(answer: Answer, offset: int) -> int:
    """Return the start of a partial answer: it must be *offset*."""
    said = answer.headers.get("Content-Range", "")
    if not said.startswith(f"bytes {offset}-"):
        answer.close()
        raise UnavailableError(f"the registry sent another range than asked: {said[:50]!r}")
    return offset


def _next_page(exchange: Exchange, request: Request, link: str | None) -> Request | None:
    if not link or 'rel="next"' not in link:
        return None
    target = link[link.find("<") + 1 : link.find(">")]
    following = exchange.moved(request, target)
    same = urlsplit(following.url).netloc == urlsplit(request.url).netloc
    return following if same else None
