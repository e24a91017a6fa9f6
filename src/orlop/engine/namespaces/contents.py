"""Blobs as containerd's clients see them: the engine's own, with labels for each namespace."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import NamedTuple

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.namespaces.events import ClientEvents
from orlop.engine.namespaces.leases import ClientLeases
from orlop.engine.namespaces.namespaces import Namespaces
from orlop.engine.threads import in_thread
from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    ExhaustedError,
    InvalidArgumentError,
    UnavailableError,
    WrongStateError,
)
from orlop.model import clients
from orlop.model.clients import Ingest, Resource
from orlop.model.digest import Digest, parse_digest
from orlop.model.namespace import check_labels
from orlop.store.clients import CONTENT
from orlop.store.collect import mark
from orlop.store.content import Content
from orlop.store.ingest import Receiver, Writer
from orlop.store.objects import Entry

_BLOCK = 1 << 20
_MOST_WRITERS = 256
_LONGEST_REF = 1024


class Blob(NamedTuple):
    """A blob, and what a namespace knows of it."""

    digest: Digest
    size: int
    created_ns: int
    updated_ns: int
    labels: Mapping[str, str]


class Ingesting:
    """A blob that one client writes now. The bytes stay when it ends, if the digest is known."""

    def __init__(self, content: Content, record: Ingest, undo: ExitStack) -> None:
        self._content = content
        self._undo = undo
        self._to: Writer | Receiver
        self.record = record
        self.is_committed = False
        self._open()

    def _open(self) -> None:
        if self.record.expected:
            size = self.record.total or None
            digest = Digest(self.record.expected)
            self._to = self._undo.enter_context(self._content.writer(digest, size=size))
        else:
            self._to = self._undo.enter_context(self._content.receiver())

    @property
    def offset(self) -> int:
        """Bytes that are here."""
        return self._to.offset if isinstance(self._to, Writer) else self._to.size

    @property
    def digest(self) -> str:
        """The digest of what is here, if that is cheap to say."""
        return "" if isinstance(self._to, Writer) else self._to.digest

    def restart(self) -> None:
        """Drop what is here. Blocking."""
        if isinstance(self._to, Writer):
            self._to.restart()
        else:
            self._undo.close()
            self._open()

    def write(self, data: bytes) -> None:
        """Append *data*. Blocking."""
        self._to.write(data)

    def check(self, total: int, expected: str) -> Digest:
        """Return the digest of the whole blob; CorruptError unless it is as *expected*."""
        if total and self.offset != total:
            raise CorruptError(f"the blob has {self.offset} bytes, and not {total}")
        known = self.record.expected
        if expected and known and expected != known:
            raise InvalidArgumentError(f"the blob was announced as {known}, not {expected[:80]}")
        actual = Digest(known) if isinstance(self._to, Writer) else self._to.digest
        if expected and actual != expected:
            raise CorruptError(f"the blob is {actual}, and not {expected[:80]}")
        return actual

    def commit(self) -> None:
        """Publish the blob. Blocking."""
        self._to.commit()
        self.is_committed = True


class Contents:
    """The blobs, and those that are being written."""

    def __init__(
        self,
        context: Context,
        namespaces: Namespaces,
        leases: ClientLeases,
        events: ClientEvents,
    ) -> None:
        self._events = events
        self._context = context
        self._content = context.content
        self._blobs = context.metadata.clients.blobs
        self._ingests = context.metadata.clients.ingests
        self._namespaces = namespaces
        self._leases = leases
        self._writing: dict[tuple[str, str], Ingesting] = {}

    def info(self, namespace: str, digest: str) -> Blob:
        """Return the blob; NotFoundError if it is not here."""
        known = parse_digest(digest)
        size = self._content.size(known)
        modified_ns = self._content.path(known).stat().st_mtime_ns
        return _blob(known, size, modified_ns, self._blobs.find(namespace, digest))

    def list(self, namespace: str) -> Iterator[Blob]:
        """Yield every blob."""
        known = {one.key: one.value for one in self._blobs.list(namespace)}
        for blob in self._content.walk():
            yield _blob(blob.digest, blob.size, blob.modified_ns, known.get(blob.digest))

    def relabel(self, namespace: str, digest: str, labels: Mapping[str, str]) -> Blob:
        """Replace the labels of a blob; NotFoundError if it is not here."""
        blob = self.info(namespace, digest)
        self._label(namespace, blob.digest, labels)
        return self.info(namespace, digest)

    async def remove(self, namespace: str, digest: str) -> None:
        """Remove the blob; WrongStateError if an image, a container or a lease needs it."""
        blob = self.info(namespace, digest)
        await in_thread(self._remove, namespace, blob.digest)
        self._events.publish(namespace, "/content/delete", digest=digest)

    def _remove(self, namespace: str, digest: Digest) -> None:
        with self._context.metadata.leases.closed():
            before = self._blobs.find(namespace, digest)
            self._blobs.remove(namespace, digest)  # its labels may be what keeps it
            if digest in mark(self._content, self._context.metadata).blobs:
                if before is not None:
                    self._blobs.put(namespace, digest, before)
                raise WrongStateError(f"an image, a container or a lease needs the blob {digest}")
            self._content.delete(digest)

    async def read(self, digest: str, *, offset: int, size: int) -> AsyncIterator[bytes]:
        """Yield *size* bytes of a blob from *offset*, or all that follow if *size* is 0."""
        whole = self._content.size(parse_digest(digest))
        if not 0 <= offset <= whole or size < 0 or offset + size > whole:
            raise InvalidArgumentError(f"the blob {digest} has only {whole} bytes")
        left = size or whole - offset
        with self._content.open(Digest(digest)) as blob:
            blob.seek(offset)
            while left and (data := await in_thread(blob.read, min(left, _BLOCK))):
                left -= len(data)
                yield data

    # Writing

    def statuses(self, namespace: str) -> Sequence[tuple[Entry[Ingest], int]]:
        """Return what is being written, or was begun, with the bytes that are here."""
        entries = {one.key: one for one in self._ingests.list(namespace)}
        return [(one, self._offset(one)) for one in entries.values()]

    def status(self, namespace: str, ref: str) -> tuple[Entry[Ingest], int]:
        """Return what is being written as *ref*; NotFoundError if nothing is."""
        entry = Entry(namespace, ref, self._ingests.get(namespace, ref))
        return entry, self._offset(entry)

    def _offset(self, entry: Entry[Ingest]) -> int:
        writing = self._writing.get((entry.namespace, entry.key))
        if writing is not None:
            return writing.offset
        if not entry.value.expected:
            return 0
        return self._content.begun(Digest(entry.value.expected))

    def abort(self, namespace: str, ref: str) -> None:
        """Drop what was begun as *ref*; NotFoundError if nothing was."""
        record = self._ingests.get(namespace, ref)
        if (namespace, ref) in self._writing:
            raise UnavailableError(f"{ref[:200]} is being written")
        self._ingests.remove(namespace, ref)
        if record.expected:
            self._content.discard(self._content.path(Digest(record.expected)).name)

    @asynccontextmanager
    async def writing(
        self, namespace: str, ref: str, *, total: int, expected: str
    ) -> AsyncIterator[Ingesting]:
        """Write the blob *ref*, going on with what is here of it.

        AlreadyExistsError if it is stored, UnavailableError if another client writes it.
        """
        if not ref or len(ref) > _LONGEST_REF:
            raise InvalidArgumentError(f"a ref has 1 to {_LONGEST_REF} characters")
        if total < 0:
            raise InvalidArgumentError(f"invalid size {total}")
        record = self._record(namespace, ref, total, expected)
        key = (namespace, ref)
        with ExitStack() as undo:
            now_ns = time.time_ns()
            self._namespaces.ensure(namespace)
            self._ingests.put(namespace, ref, replace(record, updated_ns=now_ns))
            ingesting = await in_thread(Ingesting, self._content, record, undo)
            self._writing[key] = ingesting
            try:
                yield ingesting
            except CorruptError:  # nothing could go on with these bytes
                await in_thread(ingesting.restart)
                self._ingests.remove(namespace, ref)
                raise
            finally:
                del self._writing[key]
                if ingesting.is_committed or not record.expected:
                    self._ingests.remove(namespace, ref)
                await in_thread(undo.close)

    def _record(self, namespace: str, ref: str, total: int, expected: str) -> Ingest:
        if expected and self._content.has(parse_digest(expected)):
            raise AlreadyExistsError(f"the blob {expected} is stored")
        if len(self._writing) >= _MOST_WRITERS:
            raise ExhaustedError(f"{_MOST_WRITERS} blobs are being written")
        same = (one.record.expected for one in self._writing.values() if expected)
        is_busy = expected and self._content.is_busy(Digest(expected))
        if (namespace, ref) in self._writing or expected in same or is_busy:
            raise UnavailableError(f"{ref[:200]} is being written")
        known = self._ingests.find(namespace, ref)
        now_ns = time.time_ns()
        if known is None or (expected and known.expected != expected):
            known = Ingest(started_ns=now_ns, updated_ns=now_ns, total=total, expected=expected)
        return known

    async def commit(
        self,
        namespace: str,
        ingesting: Ingesting,
        *,
        total: int,
        expected: str,
        labels: Mapping[str, str],
        lease: str,
    ) -> Digest:
        """Publish the blob, which *lease* protects from then on."""
        digest = await in_thread(ingesting.check, total, expected)
        check_labels(dict(labels))
        if self._content.has(digest):
            self._label(namespace, digest, labels)
            raise AlreadyExistsError(f"the blob {digest} is stored")
        if lease:
            await self._leases.add(namespace, lease, Resource(id=digest, type=CONTENT))
        await in_thread(ingesting.commit)
        self._label(namespace, digest, labels)
        return digest

    def _label(self, namespace: str, digest: Digest, labels: Mapping[str, str]) -> None:
        kept = check_labels({key: value for key, value in labels.items() if value})
        now_ns = time.time_ns()
        before = self._blobs.find(namespace, digest)
        created_ns = before.created_ns if before else now_ns
        self._namespaces.ensure(namespace)
        self._blobs.put(
            namespace,
            digest,
            clients.Blob(created_ns=created_ns, updated_ns=now_ns, labels=kept),
        )


def _blob(digest: Digest, size: int, modified_ns: int, known: clients.Blob | None) -> Blob:
    if known is None:
        return Blob(digest, size, modified_ns, modified_ns, {})
    return Blob(digest, size, known.created_ns, known.updated_ns, known.labels)
