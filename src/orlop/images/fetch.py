"""Download one blob from a registry, verified as a stream, resumed if interrupted."""

import http.client
from collections.abc import Callable

from orlop.errors import CorruptError, UnavailableError
from orlop.images.exchange import explain
from orlop.images.progress import Kind, Progress, silent
from orlop.images.registry import Registry
from orlop.images.transport import Answer
from orlop.model.image import Descriptor
from orlop.store.content import Checker, Content
from orlop.store.ingest import Writer

_BLOCK = 1 << 20
_RENEWING = 1 << 16

#: Receives the blob's bytes in order. The view is valid only during the call.
Consumer = Callable[[memoryview], object]


def fetch_blob(
    registry: Registry,
    descriptor: Descriptor,
    content: Content,
    *,
    progress: Progress = silent,
    consumer: Consumer | None = None,
) -> None:
    """Make sure the blob is in *content*; if another is fetching it, wait for that.

    A *consumer* sees every byte, also of a blob that was here, so that it can
    unpack meanwhile. What it saw is verified only when this returns. If the
    consumer raises, that is raised, and what came so far is kept.

    Raises CorruptError, nothing kept, if the bytes are not what the descriptor
    says; UnavailableError, NotFoundError, PermissionDeniedError from the
    registry, what came so far kept for the next attempt; ExhaustedError.
    """
    with content.writer(descriptor.digest, size=descriptor.size) as writer:
        if writer.done:
            progress(descriptor.digest, Kind.EXISTS, descriptor.size, descriptor.size)
            if consumer is not None:
                replay(content, descriptor, consumer)
            return
        fetch = _Fetch(registry, descriptor, writer, progress=progress, consumer=consumer)
        fetch.adopt()
        fetch.run()
        writer.commit()


def replay(content: Content, descriptor: Descriptor, consumer: Consumer) -> None:
    """Pass a stored blob to *consumer*; CorruptError at its end if it is damaged."""
    buffer = bytearray(_BLOCK)
    check = Checker(descriptor.digest)
    with content.open(descriptor.digest) as blob:
        while count := blob.readinto(buffer):
            view = memoryview(buffer)[:count]
            check.update(view)
            consumer(view)
    check.finish()


class _Fetch:
    """One blob's download, over as many connections as it needs."""

    def __init__(
        self,
        registry: Registry,
        descriptor: Descriptor,
        writer: Writer,
        *,
        progress: Progress,
        consumer: Consumer | None,
    ) -> None:
        self._registry = registry
        self._descriptor = descriptor
        self._writer = writer
        self._progress = progress
        self._consumer = consumer
        self._buffer = bytearray(_BLOCK)

    def adopt(self) -> None:
        """Pass the part that an interrupted download left to the consumer."""
        if self._consumer is not None:
            for view in self._writer.replay(self._buffer):
                self._consumer(view)

    def run(self) -> None:
        """Download the missing part; the retries start again after every _RENEWING bytes."""
        waits = self._registry.patience.waits()
        renewed_at = self._writer.offset
        while self._missing:
            broken = self._attempt()
            if broken is None:
                break
            if self._writer.offset - renewed_at >= _RENEWING:
                waits = self._registry.patience.waits()
                renewed_at = self._writer.offset
            wait_s = next(waits, None)
            if wait_s is None:
                raise explain(self._registry.host, broken) from broken
            self._registry.patience.sleep(wait_s)

    @property
    def _missing(self) -> int:
        return self._descriptor.size - self._writer.offset

    def _attempt(self) -> Exception | None:
        """Download from one connection; return the error if the connection broke."""
        answer, start = self._registry.open_blob(
            self._descriptor.digest, offset=self._writer.offset
        )
        with answer:
            skip = self._writer.offset - start
            while self._missing:
                try:
                    count = answer.readinto(self._buffer)
                except (OSError, http.client.HTTPException) as error:
                    return error
                if count == 0:
                    return self._short(answer)
                skipped = min(skip, count)
                skip -= skipped
                self._take(memoryview(self._buffer)[skipped:count])
            self._check_end(answer)
        return None

    def _take(self, view: memoryview) -> None:
        if len(view) > self._missing:
            self._writer.restart()
            raise self._wrong()
        self._writer.write(view)
        if self._consumer is not None:
            self._consumer(view)
        size = self._descriptor.size
        self._progress(self._descriptor.digest, Kind.DOWNLOAD, self._writer.offset, size)

    def _short(self, answer: Answer) -> Exception:
        """Distinguish a broken connection from a server that has no more data."""
        if answer.headers.get("Content-Length") is None:
            return UnavailableError(f"{self._registry.host} closed the connection")
        end = self._writer.offset
        self._writer.restart()
        raise CorruptError(
            f"blob {self._descriptor.digest} ends after {end} of {self._descriptor.size} bytes"
        )

    def _check_end(self, answer: Answer) -> None:
        try:
            more = answer.readinto(memoryview(self._buffer)[:1])
        except (OSError, http.client.HTTPException):
            return  # we have everything
        if more:
            self._writer.restart()
            raise self._wrong()

    def _wrong(self) -> CorruptError:
        return CorruptError(
            f"blob {self._descriptor.digest} is longer than {self._descriptor.size} bytes"
        )
