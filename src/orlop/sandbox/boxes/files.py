"""Files and folders in and out of a sandbox, as streams."""

import contextlib
import os
import posixpath
import shutil
import tarfile
import time
from collections.abc import Generator, Iterator
from io import BufferedReader

from orlop.client.packing import PieceReader, contents, pack
from orlop.errors import AlreadyExistsError, ExhaustedError, InvalidArgumentError, NotFoundError
from orlop.sandbox.arguments import check_limit
from orlop.sandbox.boxes.file_data import Data, Sized, sized
from orlop.sandbox.way import Box

#: What read() and get() take from a sandbox by default. A sparse file costs the sandbox nothing.
READ_LIMIT = 64 << 20
GET_LIMIT = 1 << 30

_PIECE_BYTES = 256 << 10
_HOLE = bytes(_PIECE_BYTES)
_MOST_LINKS = 40


class Files:
    """Of one sandbox. Paths inside begin with "/"."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def read(self, path: str, *, limit: int | None = READ_LIMIT) -> bytes:
        """Return the contents of the file *path*, which has at most *limit* bytes.

        Raises:
            ExhaustedError: the file is larger; stream() reads a file of any size.
        """
        check_limit(limit)
        with self._file(path) as (size, pieces):
            if limit is not None and size > limit:
                raise ExhaustedError(
                    f"{path} has {size} bytes, more than the limit of {limit}",
                    hint="raise limit=, or read it in pieces with files.stream()",
                )
            return b"".join(pieces)

    def stream(self, path: str) -> Generator[bytes, None, None]:
        """Yield the contents of the file *path* in pieces; its size has no limit."""
        with self._file(path) as (_, pieces):
            yield from pieces

    def write(self, path: str, data: Data, *, mode: int = 0o644, user: str = "") -> None:
        """Make the file *path* of bytes, of a file from where it stands, or of pieces of bytes.

        It is *user*'s, by default whom the sandbox's commands run as. What does not know its
        length (a pipe, a generator) is read to its end first, to a temporary file if it is
        long. What was there is replaced; a file that could not be written whole is removed.

        Raises:
            ExhaustedError: it is more than the sandbox's `disk` or `memory` leaves room for.
        """
        folder, name = posixpath.split(_absolute(path))
        if not name:
            raise InvalidArgumentError(f"{path} is a folder's path")
        header = tarfile.TarInfo(name)
        header.mode = mode
        header.mtime = time.time()
        with sized(data) as known:
            self._box.write_tar(folder, _archived(header, known), user=user)

    def put(self, source: str | os.PathLike[str], path: str, *, user: str = "") -> None:
        """Copy the file or folder *source* of this machine to *path*, whose parent must exist.

        All of it is *user*'s, by default whom the sandbox's commands run as. ExhaustedError as
        for write(): what was copied until then stays.
        """
        folder, name = posixpath.split(_absolute(path).rstrip("/"))
        if not os.path.lexists(source):
            raise NotFoundError(f"no such file or folder: {source}")
        self._box.write_tar(folder or "/", pack(os.fspath(source), name=name or "."), user=user)

    def get(
        self, path: str, target: str | os.PathLike[str], *, limit: int | None = GET_LIMIT
    ) -> None:
        """Copy the file or folder *path* to *target*, which must not exist.

        Links are made last and nothing is written through them; devices, sockets and
        set-id bits are left out. Where a file has only zeros, the copy has a hole.

        Raises:
            AlreadyExistsError: *target* exists.
            NotFoundError: *target*'s folder does not exist.
            ExhaustedError: the files have more than *limit* bytes together. No copy is left.
        """
        check_limit(limit)
        place = os.fspath(target)
        if os.path.lexists(place):
            raise AlreadyExistsError(f"{place} exists")
        if not os.path.isdir(os.path.dirname(place) or "."):
            raise NotFoundError(f"no folder {os.path.dirname(place)} for the copy")
        with contextlib.ExitStack() as undo:
            undo.callback(_remove, place)
            self._copy(path, place, limit)
            undo.pop_all()

    def _copy(self, path: str, place: str, limit: int | None) -> None:
        links: list[tuple[str, str]] = []
        size = 0
        with self._archive(path) as archive:
            for member in _members(archive):
                size += member.size
                if limit is not None and size > limit:
                    raise ExhaustedError(
                        f"{path} has more than the limit of {limit} bytes", hint="raise limit="
                    )
                _extract(archive, member, place, links)
        for link, leads_to in links:
            os.symlink(leads_to, link)

    @contextlib.contextmanager
    def _file(self, path: str) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Open the file *path*, through links inside the sandbox: its size and its pieces."""
        for _ in range(_MOST_LINKS):
            with self._archive(path) as archive:
                member = archive.next()
                if member is None:
                    raise NotFoundError(f"no {path} in the sandbox")
                if not member.issym():
                    yield member.size, _contents(archive, member, path)
                    return
                path = posixpath.join(posixpath.dirname(path), member.linkname)
        raise InvalidArgumentError(f"too many links at {path}")

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


def _archived(header: tarfile.TarInfo, data: Sized) -> Iterator[bytes]:
    header.size, source = data
    head = header.tobuf(tarfile.PAX_FORMAT)
    if isinstance(source, memoryview):
        yield b"".join((head, source[:_PIECE_BYTES]))
        for at in range(_PIECE_BYTES, header.size, _PIECE_BYTES):
            yield bytes(source[at : at + _PIECE_BYTES])
        yield bytes(-header.size % tarfile.BLOCKSIZE)
    else:
        yield head
        yield from contents(source, header.size, what="the file")
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
                if piece == _HOLE[: len(piece)]:
                    file.seek(len(piece), os.SEEK_CUR)
                else:
                    file.write(piece)
            file.truncate()
            os.fchmod(file.fileno(), member.mode & 0o777)


def _below(place: str, name: str) -> str:
    """Return where an entry goes, the archive's own top being *place*; nothing climbs out."""
    parts = [part for part in name.split("/")[1:] if part not in ("", ".", "..")]
    return os.path.join(place, *parts)


def _remove(place: str) -> None:
    """Remove what has been copied to *place*, if anything."""
    if os.path.isdir(place) and not os.path.islink(place):
        shutil.rmtree(place)
    elif os.path.lexists(place):
        os.unlink(place)
