"""Upload one blob to a repository. Distribution spec 1.1, "Pushing blobs"."""

import io
from collections.abc import Callable
from urllib.parse import urlencode, urljoin

from orlop.errors import UnavailableError
from orlop.images.exchange import BROKEN, TRY_AGAIN, explain
from orlop.images.progress import Kind, Progress
from orlop.images.registry import Registry
from orlop.images.transport import Answer, Request, Stream
from orlop.model.digest import Digest
from orlop.model.image import Descriptor
from orlop.store.content import Content

CHUNK_BYTES = 16 << 20
_OCTETS = {"Content-Type": "application/octet-stream"}
_SMALLER = frozenset({413, 416})  # from proxies that accept no large bodies


def upload_blob(
    registry: Registry,
    descriptor: Descriptor,
    content: Content,
    *,
    mount_from: str | None = None,
    progress: Progress,
) -> None:
    """Make sure the blob is in the repository: found there, mounted from another, or sent.

    It is sent in one request; if that fails, in chunks with retries. UnavailableError,
    PermissionDeniedError; NotFoundError if it is not in *content*.
    """
    size = content.size(descriptor.digest)
    if registry.has_blob(descriptor.digest):
        progress(descriptor.digest, Kind.EXISTS, size, size)
        return
    upload = _Upload(registry, descriptor, content, mount_from=mount_from, progress=progress)
    location = upload.begin()
    if location is None:
        progress(descriptor.digest, Kind.MOUNT, size, size)
    elif not upload.send_whole(location):
        upload.send_in_chunks()


class _Upload:
    def __init__(
        self,
        registry: Registry,
        descriptor: Descriptor,
        content: Content,
        *,
        mount_from: str | None,
        progress: Progress,
    ) -> None:
        self._registry = registry
        self._exchange = registry.server
        self._digest = descriptor.digest
        self._content = content
        self._size = content.size(descriptor.digest)
        self._progress = progress
        self._mount_from = mount_from
        self._scope = registry.scope("pull,push")
        if mount_from:
            self._scope += f" repository:{mount_from}:pull"

    def begin(self) -> str | None:
        """Return the upload's location; None if the registry mounted the blob."""
        url = self._exchange.url(self._registry.path("blobs/uploads/"))
        if self._mount_from:
            query = urlencode({"mount": self._digest, "from": self._mount_from})
            url += ("&" if "?" in url else "?") + query
        with self._exchange.send(Request("POST", url), scope=self._scope) as answer:
            if answer.status == 201:
                return None
            if answer.status != 202:
                raise self._problem(answer)
            return self._location(answer, url)

    def send_whole(self, location: str) -> bool:
        """Send everything in one request; False if it should be tried in chunks."""
        try:
            with self._exchange.send_once(self._closing(location, 0), scope=self._scope) as answer:
                if answer.status in TRY_AGAIN | _SMALLER:
                    return False
                if answer.status not in (201, 202, 204):
                    raise self._problem(answer)
        except BROKEN:
            return False
        return True

    def send_in_chunks(self) -> None:
        """Send chunk by chunk; each chunk that arrives resets the retries."""
        location, offset = self.begin(), 0
        waits = self._registry.patience.waits()
        while location is not None and offset < self._size:
            try:
                location, offset = self._send_chunk(location, offset)
                waits = self._registry.patience.waits()
            except BROKEN as error:
                wait_s = next(waits, None)
                if wait_s is None:
                    raise explain(self._exchange.endpoint.host, error) from error
                self._registry.patience.sleep(wait_s)
                location, offset = self._where(location)
        if location is not None:
            with self._exchange.send(self._closing(location, offset), scope=self._scope) as answer:
                if answer.status not in (201, 202, 204):
                    raise self._problem(answer)

    def _send_chunk(self, location: str, offset: int) -> tuple[str, int]:
        end = min(offset + CHUNK_BYTES, self._size)
        headers = {**_OCTETS, "Content-Range": f"{offset}-{end - 1}"}
        request = self._request("PATCH", location, headers, part=(offset, end))
        with self._exchange.send_once(request, scope=self._scope) as answer:
            if answer.status in TRY_AGAIN:
                raise ConnectionError(f"it answered {answer.status}")
            if answer.status != 202:
                raise self._problem(answer)
            return self._location(answer, location), end

    def _where(self, location: str) -> tuple[str | None, int]:
        """Ask how much has arrived; begin again if the registry has forgotten the upload."""
        with self._exchange.send(Request("GET", location), scope=self._scope) as answer:
            if answer.status != 204:
                return self.begin(), 0
            _, _, last = answer.headers.get("Range", "0-0").partition("-")
            arrived = int(last) + 1 if last.isdigit() and int(last) else 0
            return self._location(answer, location), arrived

    def _closing(self, location: str, offset: int) -> Request:
        """Return the request that sends the rest and names the blob."""
        mark = "&" if "?" in location else "?"
        url = f"{location}{mark}{urlencode({'digest': self._digest})}"
        return self._request("PUT", url, _OCTETS, part=(offset, self._size))

    def _request(
        self, method: str, url: str, headers: dict[str, str], *, part: tuple[int, int]
    ) -> Request:
        body = _Part(self._content, self._digest, part, self._sent)
        return self._exchange.moved(Request(method, self._exchange.url("/"), headers, body), url)

    def _sent(self, position: int) -> None:
        self._progress(self._digest, Kind.UPLOAD, position, self._size)

    def _location(self, answer: Answer, url: str) -> str:
        location = answer.headers.get("Location")
        if not location:
            raise UnavailableError(f"{self._exchange.endpoint.host} does not say where to upload")
        return urljoin(url, location)

    def _problem(self, answer: Answer) -> Exception:
        return self._registry.problem(answer, self._exchange, f"blob {self._digest}")


class _Part:
    """A body: a range of a blob's bytes."""

    def __init__(
        self,
        content: Content,
        digest: Digest,
        part: tuple[int, int],
        sent: Callable[[int], None],
    ) -> None:
        self._content = content
        self._digest = digest
        self._start, self._end = part
        self._sent = sent
        self.length = self._end - self._start

    def open(self) -> Stream:
        blob = self._content.open(self._digest)
        blob.seek(self._start)
        return _Reader(blob, self.length, self._start, self._sent)


class _Reader:
    def __init__(
        self, blob: io.FileIO, left: int, position: int, sent: Callable[[int], None]
    ) -> None:
        self._blob = blob
        self._left = left
        self._position = position
        self._sent = sent

    def read(self, size: int = -1, /) -> bytes:
        data = self._blob.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._position += len(data)
        if data:
            self._sent(self._position)
        return data

    def close(self) -> None:
        self._blob.close()
