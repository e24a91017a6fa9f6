"""Files and folders in and out of a sandbox, as streams: their size is no matter."""

import contextlib
import os
import posixpath
import tarfile
from collections.abc import Generator, Iterator
from io import BufferedReader
from typing import BinaryIO

from orlop.client.packing import PieceReader, contents, pack
from orlop.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from orlop.sandbox.way import Box

_PIECE_BYTES = 256 << 10
_MOST_LINKS = 40


class Files:
    """Of one sandbox. Paths inside begin with "/"."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def read(self, path: str) -> bytes:
        """Return what is in the file *path*."""
        return b"".join(self.stream(path))

    def stream(self, path: str) -> Generator[bytes, None, None]:
        """Yield what is in the file *path*, in pieces."""
        for _ in range(_MOST_LINKS):
            with self._archive(path) as archive:
                member = archive.next()
                if member is None:
                    raise NotFoundError(f"no {path} in the sandbox")
                if not member.issym():
                    yield from _contents(archive, member, path)
                    return
                path = posixpath.join(posixpath.dirname(path), member.linkname)
        raise InvalidArgumentError(f"too many links at {path}")

    def write(self, path: str, data: bytes | BinaryIO, *, mode: int = 0o644) -> None:
        """Make the file *path* of bytes, or of a seekable file from where it stands to its end."""
        folder, name = posixpath.split(_absolute(path))
        if not name:
            raise InvalidArgumentError(f"{path} is a folder's path")
        header = tarfile.TarInfo(name)
        header.mode = mode
        header.size = len(data) if isinstance(data, bytes) else _left(data)
        self._box.write_tar(folder, _archived(header, data))

    def put(self, source: str | os.PathLike[str], path: str) -> None:
        """Copy the file or folder *source* of this machine to *path*, whose parent must exist."""
        folder, name = posixpath.split(_absolute(path).rstrip("/"))
        if not os.path.lexists(source):
            raise NotFoundError(f"no such file or folder: {source}")
        self._box.write_tar(folder or "/", pack(os.fspath(source), name=name or "."))

    def get(self, path: str, target: str | os.PathLike[str]) -> None:
        """Copy the file or folder *path* to *target*, which must not exist.

        Links are made last and nothing is written through them; devices, sockets and
        set-id bits are left out. AlreadyExistsError if *target* is there.
        """
        place = os.fspath(target)
        if os.path.lexists(place):
            raise AlreadyExistsError(f"{place} exists")
        links: list[tuple[str, str]] = []
        with self._archive(path) as archive:
            for member in _members(archive):
                _extract(archive, member, place, links)
        for link, leads_to in links:
            os.symlink(leads_to, link)

    @contextlib.contextmanager
    def _archive(self, path: str) -> Iterator[tarfile.TarFile]:
        """Open *path* as a tar stream that is read as it arrives."""
        with contextlib.closing(self._box.read_tar(_absolute(path))) as pieces:
            reader = BufferedReader(PieceReader(pieces), _PIECE_BYTES)
            with tarfile.open(fileobj=reader, mode="r|", bufsize=_PIECE_BYTES) as archive:
                yield archive


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries; unlike the archive's own iterator it keeps none of them."""
    while (member := archive.next()) is not None:
        yield member
        archive.members.clear()  # type: ignore[attr-defined]  # not in the stubs


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"invalid path {path!r} in a sandbox", hint='it begins with "/"')
    return path


def _left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return end - here


def _archived(header: tarfile.TarInfo, data: bytes | BinaryIO) -> Iterator[bytes]:
    yield header.tobuf(tarfile.PAX_FORMAT)
    if isinstance(data, bytes):
        yield data
        yield bytes(-header.size % tarfile.BLOCKSIZE)
    else:
        yield from contents(data, header.size, what="the file")
    yield bytes(2 * tarfile.BLOCKSIZE)


def _contents(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Iterator[bytes]:
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise InvalidArgumentError(f"{path} is no file")
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _extract(
    archive: tarfile.TarFile, member: tarfile.TarInfo, place: str, links: list[tuple[str, str]]
) -> None:
    target = _below(place, member.name)
    if member.isdir():
        os.mkdir(target, member.mode & 0o777 | 0o700)
    elif member.issym():
        links.append((target, member.linkname))
    elif member.islnk():
        os.link(_below(place, member.linkname), target, follow_symlinks=False)
    elif member.isreg():
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in _contents(archive, member, member.name):
                file.write(piece)
            os.fchmod(file.fileno(), member.mode & 0o777)


def _below(place: str, name: str) -> str:
    """Return where an entry goes, the archive's own top being *place*; nothing climbs out."""
    parts = [part for part in name.split("/")[1:] if part not in ("", ".", "..")]
    return os.path.join(place, *parts)
