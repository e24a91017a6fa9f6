"""Blobs by digest: an OCI image layout on disk that other tools can read.

    content/oci-layout
    content/index.json            one entry for each image name; see publish()
    content/blobs/sha256/HEX      read-only, complete and verified when they appear
    content/ingest/HEX            being written; its writer holds a lock (flock(2))

Several processes may write at once. A blob appears by rename, so a kill never leaves an
incomplete one. An unlocked file in ingest/ is the beginning of an interrupted download, and
the next writer of the same digest continues it.

After a power failure: a blob is flushed before its rename only if the writer asks for it
(durable), because a lost blob can be fetched again. File systems write the size after the
data, so a lost blob is too short, and has() compares sizes. Small documents are verified at
each read. Blobs made here, which nobody else has, are written durable.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from orlop.errors import CorruptError, InvalidArgumentError, NotFoundError
from orlop.model.digest import Digest, split_digest
from orlop.model.image import (
    MAX_DOCUMENT_BYTES,
    OCI_INDEX,
    REF_NAME,
    Descriptor,
    Index,
    digest_of,
    encode,
)
from orlop.store.faults import explained
from orlop.store.ingest import Receiver, Writer, is_busy, remove_unless_busy

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_EMPTY_INDEX = b'{"schemaVersion":2,"manifests":[]}'
_HEX = re.compile(r"[0-9a-f]{64}")


class Blob(NamedTuple):
    digest: Digest
    size: int  # bytes
    modified_ns: int


class Ingest(NamedTuple):
    name: str
    size: int
    modified_ns: int


class Checker:
    """Verifies a blob while it is read."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._hash = hashlib.sha256()

    def update(self, data: bytes | memoryview) -> None:
        self._hash.update(data)

    def finish(self) -> None:
        """Raise CorruptError if the bytes do not match the digest."""
        if self._hash.hexdigest() != split_digest(self._digest)[1]:
            raise _damaged(self._digest)


class Content:
    """The blobs under *root*. Thread-safe except publish(): all its state is on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._ingests = root / "ingest"

    @classmethod
    def create(cls, root: Path) -> Self:
        """Return the content store at *root*, created if missing."""
        content = cls(root)
        with explained(f"the content store {root}"):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            content._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
            content._ingests.mkdir(mode=0o700, exist_ok=True)
            _write_once(root / "index.json", _EMPTY_INDEX)
            _write_once(root / "oci-layout", _LAYOUT)
        return content

    def path(self, digest: Digest) -> Path:
        """Return the path of the blob, stored or not; InvalidArgumentError unless it is sha256."""
        algorithm, name = split_digest(digest)
        if algorithm != "sha256" or not _HEX.fullmatch(name):
            raise InvalidArgumentError(
                f"cannot store {digest[:150]!r}", hint="only sha256 digests are supported"
            )
        return self._blobs / name

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the blob is here and complete: *size* bytes, if that is known."""
        try:
            there = self.path(digest).stat().st_size
        except FileNotFoundError:
            return False
        return size is None or size == there

    def size(self, digest: Digest) -> int:
        """Return the blob's size in bytes; NotFoundError if it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def open(self, digest: Digest) -> FileIO:
        """Return the blob for reading, unbuffered; NotFoundError if it is not here."""
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError:
            raise _missing(digest) from None

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document, verified. CorruptError if it does not match, or is too long."""
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise CorruptError(f"document {descriptor.digest} is too large")
        return self.read_document(descriptor.digest)

    def read_document(self, digest: Digest) -> bytes:
        """Return the document with this digest, verified, if its size is not known."""
        with self.open(digest) as blob:
            data = blob.read(MAX_DOCUMENT_BYTES + 1) or b""
        if len(data) > MAX_DOCUMENT_BYTES or digest_of(data) != digest:
            raise _damaged(digest)
        return data

    def verify(self, digest: Digest) -> None:
        """Read the whole blob; CorruptError if it does not match its digest."""
        with self.open(digest) as blob:
            actual = hashlib.file_digest(blob, "sha256").hexdigest()
        if actual != split_digest(digest)[1]:
            raise _damaged(digest)

    def writer(self, digest: Digest, *, size: int | None = None, durable: bool = False) -> Writer:
        """Return a writer for the blob *digest*; wait while another writes the same one.

        Check its `done`: the other may have finished the blob. *size* is the exact number
        of bytes to come. *durable* flushes the blob to disk before it appears.
        """
        target = self.path(digest)
        with explained(f"blob {digest}"):
            return Writer(self._ingests / target.name, target, size=size, durable=durable)

    def receiver(self, *, durable: bool = False) -> Receiver:
        """Return a writer for a blob whose digest is not known yet."""
        with explained(f"the content store {self.root}"):
            return Receiver(self._ingests, self._blobs, durable=durable)

    def add(self, data: bytes, *, durable: bool = False) -> Digest:
        """Store *data*, a document, and return its digest."""
        digest = digest_of(data)
        with self.writer(digest, size=len(data), durable=durable) as writer:
            if not writer.done:
                writer.restart()
                writer.write(data)
                writer.commit()
        return digest

    def delete(self, digest: Digest) -> None:
        """Remove the blob; one already gone is no error."""
        with explained(f"blob {digest}"), suppress(FileNotFoundError):
            self.path(digest).unlink()

    def publish(self, names: Mapping[str, Descriptor]) -> None:
        """Make index.json contain exactly *names*, for other tools that read the layout.

        Our own source is the metadata; this file is written from it, whole, by rename. One
        call at a time.
        """
        manifests = tuple(
            msgspec.structs.replace(
                descriptor, annotations={**descriptor.annotations, REF_NAME: name}, urls=()
            )
            for name, descriptor in sorted(names.items())
        )
        index = Index(schema_version=2, media_type=OCI_INDEX, manifests=manifests)
        path = self.root / "index.json"
        with explained(f"{path}"):
            _replace(path, encode(index))

    def walk(self) -> Iterator[Blob]:
        """Yield each blob that is here."""
        for entry in _scan(self._blobs):
            if _HEX.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # removed meanwhile
                    stat = entry.stat(follow_symlinks=False)
                    yield Blob(Digest(f"sha256:{entry.name}"), stat.st_size, stat.st_mtime_ns)

    def abandoned(self) -> Iterator[Ingest]:
        """Yield the ingests of interrupted writers, which no live writer holds."""
        for entry in _scan(self._ingests):
            with suppress(FileNotFoundError):
                stat = entry.stat(follow_symlinks=False)
                if not is_busy(entry.path):
                    yield Ingest(entry.name, stat.st_size, stat.st_mtime_ns)

    def begun(self, digest: Digest) -> int:
        """Return how many bytes of the blob are here, of one that is not whole."""
        try:
            return (self._ingests / self.path(digest).name).stat().st_size
        except FileNotFoundError:
            return 0

    def is_busy(self, digest: Digest) -> bool:
        """Whether a live writer writes the blob now."""
        try:
            return is_busy(self._ingests / self.path(digest).name)
        except FileNotFoundError:
            return False

    def discard(self, name: str) -> None:
        """Remove an abandoned ingest, unless it is in use again or already gone."""
        with explained(f"ingest {name}"), suppress(FileNotFoundError):
            remove_unless_busy(self._ingests / name)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _write_once(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    if path.exists():
        return
    _replace(path, data)


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _missing(digest: Digest) -> NotFoundError:
    return NotFoundError(f"no blob {digest}", hint="pull the image again")


def _damaged(digest: Digest) -> CorruptError:
    return CorruptError(f"blob {digest} is damaged", hint="pull the image again")
