"""Blobs by digest: an OCI image layout on disk that other tools can read.

    content/oci-layout
    content/index.json            one entry for each image name; see publish()
    content/blobs/sha256/HEX      read-only, complete and verified when they appear
    content/ingest/HEX            being written; its writer holds a lock (flock(2)) on it

Several processes may write at once. A blob appears by rename, so there is never
half a one, whatever is killed. What is in ingest/ unlocked is the start of an
interrupted download, and the next writer of the same digest goes on from there.

What a power failure may do: a blob is not flushed before its rename unless the
writer asks (durable), since a lost blob is fetched again; file systems order
size after data, so a lost one is short, and has() compares sizes. Small
documents are verified on each read. Blobs made here, which nobody else has,
are written durable.
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
    """Verifies a blob while somebody reads it."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._hash = hashlib.sha256()

    def update(self, data: bytes | memoryview) -> None:
        self._hash.update(data)

    def finish(self) -> None:
        """Raise CorruptError if the bytes were not what the digest says."""
        if self._hash.hexdigest() != split_digest(self._digest)[1]:
            raise _damaged(self._digest)


class Content:
    """The blobs under *root*. Safe in threads, but for publish(): the disk is all its state."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._ingests = root / "ingest"

    @classmethod
    def create(cls, root: Path) -> Self:
        """Return the content store at *root*, made if there is none."""
        content = cls(root)
        with explained(f"the content store {root}"):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            content._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
            content._ingests.mkdir(mode=0o700, exist_ok=True)
            _write_once(root / "index.json", _EMPTY_INDEX)
            _write_once(root / "oci-layout", _LAYOUT)
        return content

    def path(self, digest: Digest) -> Path:
        """Return where the blob is or would be; InvalidArgumentError unless it is sha256."""
        algorithm, name = split_digest(digest)
        if algorithm != "sha256" or not _HEX.fullmatch(name):
            raise InvalidArgumentError(
                f"cannot store {digest[:150]!r}", hint="only sha256 digests are supported"
            )
        return self._blobs / name

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the blob is here, whole: with *size* bytes, where that is known."""
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
        """Return a document, verified. CorruptError if it is not what it should be, or too long."""
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise CorruptError(f"document {descriptor.digest} is too large")
        return self.read_document(descriptor.digest)

    def read_document(self, digest: Digest) -> bytes:
        """Return the document with this digest, verified, where its size is not known."""
        with self.open(digest) as blob:
            data = blob.read(MAX_DOCUMENT_BYTES + 1) or b""
        if len(data) > MAX_DOCUMENT_BYTES or digest_of(data) != digest:
            raise _damaged(digest)
        return data

    def verify(self, digest: Digest) -> None:
        """Read the whole blob; CorruptError if it is not what its name says."""
        with self.open(digest) as blob:
            actual = hashlib.file_digest(blob, "sha256").hexdigest()
        if actual != split_digest(digest)[1]:
            raise _damaged(digest)

    def writer(self, digest: Digest, *, size: int | None = None, durable: bool = False) -> Writer:
        """Return a writer for the blob *digest*; waits while another writes the same one.

        Look at its `done`: another may have finished the blob meanwhile.
        *size* is the exact number of bytes to come. *durable* flushes the blob
        to disk before it appears.
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
        """Remove the blob; one that is already gone is no error."""
        with explained(f"blob {digest}"), suppress(FileNotFoundError):
            self.path(digest).unlink()

    def publish(self, names: Mapping[str, Descriptor]) -> None:
        """Make index.json name exactly *names*, for other tools that read the layout.

        Ours is the metadata; this is written from it, whole, by rename. One
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
        """Yield what interrupted writers left, and no live one holds."""
        for entry in _scan(self._ingests):
            with suppress(FileNotFoundError):
                stat = entry.stat(follow_symlinks=False)
                if not is_busy(entry.path):
                    yield Ingest(entry.name, stat.st_size, stat.st_mtime_ns)

    def discard(self, name: str) -> None:
        """Remove an abandoned ingest, unless it came back to life or is already gone."""
        with explained(f"ingest {name}"), suppress(FileNotFoundError):
            remove_unless_busy(self._ingests / name)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _write_once(path: Path, data: bytes) -> None:
    """Write a file that exists whole or not at all."""
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
