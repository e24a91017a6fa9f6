"""The files of an archive, by name. They become blobs; no file is written under its name."""

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Protocol

from orlop.errors import CorruptError, InvalidArgumentError, NotFoundError
from orlop.images.archives.legacy import layers_in
from orlop.images.progress import Kind, Progress, silent
from orlop.images.pull import Keep
from orlop.layers.decompress import Layer
from orlop.layers.header import FILE, LINK, SYMLINK, clean
from orlop.layers.tar import Stream, TarReader
from orlop.model.digest import parse_digest
from orlop.model.image import MAX_DOCUMENT_BYTES, Descriptor
from orlop.store.content import Content

_BLOCK = 1 << 20
_MAX_MEMBERS = 100_000
_MAX_LINKS = 16
_MAX_DOCUMENTS_BYTES = 32 << 20
_DOCUMENTS = frozenset({"manifest.json", "index.json", "oci-layout", "repositories"})


class Members(Protocol):
    """The files of an archive, already in the content store except for the documents."""

    def document(self, name: str) -> bytes | None:
        """Return a document at the archive's top level, None if it does not exist."""

    def blob(self, name: str) -> Descriptor:
        """Return the blob made from the file *name*; CorruptError if there is no such file."""

    def images(self) -> Sequence[str]:
        """Return the ids that have a document, in an archive of Docker before 1.10."""

    def bring(self, descriptor: Descriptor) -> bool:
        """Store a blob of an OCI layout; False if the archive does not have it."""


class TarMembers:
    """The members of a tar, read once, in order, as a stream."""

    def __init__(
        self, stream: Stream, content: Content, *, keep: Keep, progress: Progress = silent
    ) -> None:
        self._content = content
        self._keep = keep
        self._progress = progress
        self._documents: dict[str, bytes] = {}
        self._blobs: dict[str, Descriptor] = {}
        self._links: dict[str, str] = {}
        self._read(TarReader(Decompressed(stream)))

    def document(self, name: str) -> bytes | None:
        return self._documents.get(name)

    def blob(self, name: str) -> Descriptor:
        path = _normal(name)
        for _ in range(_MAX_LINKS):
            if path not in self._links:
                break
            path = self._links[path]
        if path not in self._blobs:
            raise CorruptError(f"the archive has no file {name[:100]!r}")
        return self._blobs[path]

    def images(self) -> Sequence[str]:
        return layers_in(self._blobs)

    def bring(self, descriptor: Descriptor) -> bool:
        algorithm, _, name = descriptor.digest.partition(":")
        path = f"blobs/{algorithm}/{name}"
        if path not in self._blobs and path not in self._links:
            return False
        blob = self.blob(path)
        if (blob.digest, blob.size) != (descriptor.digest, descriptor.size):
            raise CorruptError(f"the archive's blob {descriptor.digest} is not what its name says")
        return True

    def _read(self, reader: TarReader) -> None:
        documents = 0
        for count, entry in enumerate(reader):
            name = os.fsdecode(clean(entry.name))
            if count >= _MAX_MEMBERS:
                raise CorruptError(f"the archive has more than {_MAX_MEMBERS} files")
            if entry.kind == FILE and entry.sparse is None and name in _DOCUMENTS:
                documents += entry.size
                if documents > _MAX_DOCUMENTS_BYTES or entry.size > MAX_DOCUMENT_BYTES:
                    raise CorruptError(f"the archive's {name} is too large")
                self._documents[name] = b"".join(map(bytes, reader.pieces(entry.size)))
            elif entry.kind == FILE and entry.sparse is None:
                self._blobs[name] = self._receive(reader.pieces(entry.stored), entry.size)
            elif entry.kind == SYMLINK:
                target = os.fsdecode(entry.link)
                self._links[name] = _normal(posixpath.join(posixpath.dirname(name), target))
            elif entry.kind == LINK:
                self._links[name] = _normal(os.fsdecode(entry.link))

    def _receive(self, pieces: Iterator[memoryview], size: int) -> Descriptor:
        with self._content.receiver() as receiver:
            for piece in pieces:
                receiver.write(piece)
            self._keep(receiver.digest)
            digest = receiver.commit()
        self._progress(digest, Kind.LOAD, size, size)
        return Descriptor(digest=digest, size=size)


class FolderMembers:
    """The files of an OCI layout in a folder. Opens only blobs, by digest, without links."""

    def __init__(
        self, folder: Path, content: Content, *, keep: Keep, progress: Progress = silent
    ) -> None:
        if not folder.is_dir():
            raise NotFoundError(f"no folder {folder}")
        self._folder = folder
        self._content = content
        self._keep = keep
        self._progress = progress

    def document(self, name: str) -> bytes | None:
        try:
            with self._open(name) as file:
                data = file.read(MAX_DOCUMENT_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > MAX_DOCUMENT_BYTES:
            raise CorruptError(f"{name} is too large")
        return data

    def blob(self, name: str) -> Descriptor:
        raise InvalidArgumentError(f"{self._folder} is not an OCI layout", hint="load a tar")

    def images(self) -> Sequence[str]:
        return ()

    def bring(self, descriptor: Descriptor) -> bool:
        algorithm, _, name = parse_digest(descriptor.digest).partition(":")
        self._keep(descriptor.digest)
        try:
            file = self._open(f"blobs/{algorithm}/{name}")
        except FileNotFoundError:
            return False
        with file, self._content.writer(descriptor.digest, size=descriptor.size) as writer:
            if not writer.done:
                writer.restart()
                while piece := file.read(_BLOCK):
                    writer.write(piece)
                writer.commit()
        self._progress(descriptor.digest, Kind.LOAD, descriptor.size, descriptor.size)
        return True

    def _open(self, name: str) -> FileIO:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(self._folder / name, flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise CorruptError(f"{self._folder / name} is not a file")
        return open(fd, "rb", buffering=0)


class Decompressed:
    """A stream, decompressed if it is compressed as a whole."""

    def __init__(self, stream: Stream) -> None:
        self._pieces = self._decompress(stream)
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        if not self._left:
            self._left = next(self._pieces, b"")
        if size < 0 or size >= len(self._left):
            data, self._left = self._left, b""
        else:
            data, self._left = self._left[:size], self._left[size:]
        return data

    def _decompress(self, stream: Stream) -> Iterator[bytes]:
        layer = Layer()
        while piece := stream.read(_BLOCK):
            yield from filter(None, layer.feed(memoryview(piece)))
        yield from filter(None, layer.rest())


def _normal(name: str) -> str:
    """Return *name* as a path in the archive; `..` stops at its top level."""
    return os.fsdecode(clean(os.fsencode(name)))
