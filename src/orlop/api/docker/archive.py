"""Files of a container: cp in both directions, export."""

import base64
import stat
from typing import Any

import msgspec

from orlop.api.docker.answers import stream_of
from orlop.api.docker.routing import Call
from orlop.api.docker.times import rfc3339
from orlop.api.messages import Reply, Response
from orlop.engine.answers import PathStat
from orlop.engine.requests import PutOptions
from orlop.errors import InvalidArgumentError

_STAT_HEADER = "X-Docker-Container-Path-Stat"

#: Go's os.FileMode bits, by the file types of stat(2).
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


async def stat_path(call: Call) -> Reply:
    """HEAD /containers/{name}/archive: the file at a path, in a header."""
    found = await call.engine.containers.archive_stat(call.name, _path(call))
    return Response(200, headers={_STAT_HEADER: _render(found)})


async def get(call: Call) -> Reply:
    """GET /containers/{name}/archive: the file or folder at a path, as a tar."""
    path = _path(call)
    found, pieces = await call.engine.containers.archive_get(call.name, path)
    return await stream_of(pieces, headers={_STAT_HEADER: _render(found)})


async def put(call: Call) -> Reply:
    """PUT /containers/{name}/archive: unpack a tar into a folder.

    *user*, which only Orlop has, owns the files; empty: the user that commands run as.
    """
    path = _path(call)
    options = PutOptions(
        no_overwrite_dir_non_dir=call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid=call.query.flag("copyUIDGID"),
        user=call.query.text("user") if call.query.texts("user") else None,
    )
    await call.engine.containers.archive_put(call.name, path, call.request.body, options)
    return Response(200)


async def export(call: Call) -> Reply:
    """GET /containers/{name}/export: the whole root file system, as a tar."""
    return await stream_of(await call.engine.containers.export(call.name))


def _path(call: Call) -> str:
    path = call.query.text("path")
    if not path:
        raise InvalidArgumentError("parameter path is missing")
    return path


def _render(found: PathStat) -> str:
    shape: dict[str, Any] = {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": rfc3339(found.mtime_ns),
        "linkTarget": found.link_target,
    }
    return base64.b64encode(msgspec.json.encode(shape)).decode()


def go_mode(mode: int) -> int:
    """Return the st_mode *mode* as Go's os.FileMode."""
    bits = sum(go for bit, go in _GO_BITS.items() if mode & bit)
    return stat.S_IMODE(mode) & 0o777 | bits | _GO_TYPES.get(stat.S_IFMT(mode), 0)
