"""How cp goes about it: which name a copy gets, and tar streams both ways.

What comes out of a container is not trusted: as root it is unpacked by a child
that has made the destination its root folder, so that no link in it leads out.
"""

from __future__ import annotations

import io
import os
import posixpath
import tarfile

from orlop.cli.archive import read_archive, write_archive
from orlop.client.packing import PieceReader, pack
from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TextIO

    from orlop.client.client import Client

_GO_FOLDER, _GO_LINK = 1 << 31, 1 << 27  # os.FileMode in Go, as the API has it
_READ_BYTES = 256 << 10
_MAX_LINKS = 40


def out_of(
    client: Client,
    source: tuple[str, str],
    *,
    target: str,
    out: TextIO,
    follow: bool,
    keep_owners: bool,
) -> int:
    """Copy *source*, container and path, to *target*, "-" for an archive on *out*; return bytes.

    Without *keep_owners* the copies are ours.
    """
    container, path = source
    found = client.containers.archive_stat(container, path)
    if found is None:
        raise NotFoundError(f"no {path} in container {container}")
    if follow and found["mode"] & _GO_LINK:
        path = posixpath.join(posixpath.dirname(path), found["linkTarget"])
        found = client.containers.archive_stat(container, path) or found
    if target == "-":
        counter = _Counter(client.containers.archive_get(container, path))
        write_archive(lambda: counter, "", out)
        return counter.total
    folder, name = _destination(path, target, is_folder=bool(found["mode"] & _GO_FOLDER))
    counter = _Counter(client.containers.archive_get(container, path))
    return _unpack(counter, folder=folder, name=name, keep_owners=keep_owners)


def _destination(path: str, target: str, *, is_folder: bool) -> tuple[str, str]:
    """Return (existing folder of ours, name in it) for a copy of *path*; name "." for contents."""
    contents = path.endswith("/.") or path == "."
    if os.path.isdir(target):
        name = "." if contents else posixpath.basename(path.rstrip("/")) or "."
        return target, name
    parent = os.path.dirname(target.rstrip("/")) or "."
    if not os.path.isdir(parent):
        raise NotFoundError(f"no folder {parent}")
    if os.path.lexists(target) and is_folder:
        raise InvalidArgumentError(f"cannot copy a folder onto the file {target}")
    if target.endswith("/") and not is_folder:
        raise NotFoundError(f"no folder {target}")
    return parent, os.path.basename(target.rstrip("/"))


class _Counter:
    """Passes pieces on, and knows how many bytes they were."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.total = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.total += len(piece)
            yield piece


def _unpack(pieces: _Counter, *, folder: str, name: str, keep_owners: bool) -> int:
    """Unpack a tar stream in *folder*, its top-most entry under *name*; return its bytes."""
    if os.geteuid() != 0:  # nobody else may chroot; then links that lead out are refused
        _extract(pieces, folder, name, filtered=True)
        return pieces.total
    return _in_child(lambda: _extract_in_root(pieces, folder, name, keep_owners=keep_owners))


def _extract_in_root(pieces: _Counter, folder: str, name: str, *, keep_owners: bool) -> int:
    os.chroot(folder)
    os.chdir("/")
    _extract(pieces, "/", name, filtered=False, keep_owners=keep_owners)
    return pieces.total


def _extract(
    pieces: Iterable[bytes], folder: str, name: str, *, filtered: bool, keep_owners: bool = False
) -> None:
    stream = io.BufferedReader(PieceReader(pieces), _READ_BYTES)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            member.name = _renamed(member.name, name)
            if not keep_owners:
                _make_ours(member)
            if member.islnk():
                member.linkname = _renamed(member.linkname, name)
            kept = tarfile.tar_filter(member, folder) if filtered else member
            archive.extract(kept, folder, numeric_owner=True, filter="fully_trusted")


def _make_ours(member: tarfile.TarInfo) -> None:
    """Give us the entry. InvalidArgumentError for a device: with it goes what it stands for.

    No file that a container made acts as us: as chown(2) does, this takes its set-id bits.
    """
    if member.ischr() or member.isblk():
        raise InvalidArgumentError(f"{member.name} is a device", hint="copy it with --archive")
    member.uid, member.gid = os.geteuid(), os.getegid()
    if not member.isdir():
        member.mode &= 0o1777


def _renamed(entry: str, name: str) -> str:
    """Put *name* in place of the first part of an entry's path; nothing may climb out."""
    parts = [part for part in entry.split("/")[1:] if part not in ("", ".", "..")]
    return posixpath.join(name, *parts)


def _in_child(action: Callable[[], int]) -> int:
    """Return what *action* returns in a child process; OrlopError with what it died of."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.write(write, str(action()).encode())
            os._exit(0)
        except BaseException as error:
            os.write(write, str(error).encode()[:4000])
        finally:
            os._exit(1)
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as report:
        said = report.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise OrlopError(f"cannot unpack the copy: {said or 'the child process died'}")
    return int(said)


def into(
    client: Client, container: str, path: str, *, source: str, follow: bool, keep_owners: bool
) -> int:
    """Copy *source*, "-" for an archive on our input, to *path* of *container*; return bytes."""
    if source == "-":
        counter = _Counter(read_archive(source))
        _require_folder(client, container, path)
        client.containers.archive_put(container, path, counter, copy_uid_gid=keep_owners)
        return counter.total
    if not os.path.lexists(source):
        raise NotFoundError(f"no such file or folder: {source}")
    real = os.path.realpath(source) if follow else source
    folder, name = _place_inside(client, container, path, source=real)
    counter = _Counter(pack(real, name=name))
    client.containers.archive_put(container, folder, counter, copy_uid_gid=keep_owners)
    return counter.total


def _require_folder(client: Client, container: str, path: str) -> None:
    found = _stat_followed(client, container, path)[1]
    if found is None or not found["mode"] & _GO_FOLDER:
        raise NotFoundError(f"no folder {path} in container {container}")


def _stat_followed(client: Client, container: str, path: str) -> tuple[str, dict[str, Any] | None]:
    """Return what *path* is after links at its end, and where that is."""
    for _ in range(_MAX_LINKS):
        found = client.containers.archive_stat(container, path)
        if found is None or not found["mode"] & _GO_LINK:
            return path, found
        path = posixpath.join(posixpath.dirname(path), found["linkTarget"])
    raise InvalidArgumentError(f"too many links at {path} in container {container}")


def _place_inside(client: Client, container: str, path: str, *, source: str) -> tuple[str, str]:
    """Return (folder in the container, name in it) for a copy of *source*."""
    contents = source.endswith("/.") or source == "."
    is_folder = os.path.isdir(source)
    place, found = _stat_followed(client, container, path)
    if found is not None and found["mode"] & _GO_FOLDER:
        return place, "." if contents else os.path.basename(os.path.abspath(source))
    if found is not None and is_folder:
        raise InvalidArgumentError(f"cannot copy a folder onto the file {path} in {container}")
    if found is None and path.endswith("/") and not is_folder:
        raise NotFoundError(f"no folder {path} in container {container}")
    stripped = place.rstrip("/")
    return posixpath.dirname(stripped) or "/", posixpath.basename(stripped)
