"""Resolve a user as written by people to numbers, with the image's own files.

"name", "uid", "name:group", "uid:gid". The primary group is also the first of the
supplementary groups, so that a set-group-ID program cannot drop it (CVE-2022-36109).
The files are opened beneath the container's root, read up to a limit, and only numbers
that can be ids are accepted. An unknown name is refused, never taken for root.
"""

import os
import stat

from orlop.kernel.paths import open_in_root
from orlop.model import oci
from orlop.model.light import Iterator, NamedTuple
from orlop.runtime.failure import StepError

MOST_ID = (1 << 31) - 1
_MOST_BYTES = 4 << 20
_MOST_GROUPS = 65536


class Identity(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve(root: int, text: str, *, policy: str = "") -> Identity:
    """Return the user *text* in the container at *root*; StepError if it does not exist.

    Groups of /etc/group are added with the *policy* "merge", with "" if *text* has no group, and
    never with "strict".
    """
    user, colon, group = text.partition(":")
    if colon and (not group or ":" in group):
        raise StepError(f"invalid user {text!r}")
    name, uid, gid, home = _user(root, user or "0")
    is_member = policy == "merge" or (not policy and not group)
    groups = _memberships(root, name) if name and is_member else ()
    if group:
        gid = group_id(root, group)
    return Identity(uid, gid, (*dict.fromkeys((gid, *groups)),), home)


def find(root: int, user: oci.User, *, needs_home: bool = True) -> Identity:
    """Return a process's *user* in the container at *root*; StepError if it does not exist."""
    more = tuple(user.get("additionalGids", ()))
    if name := user.get("username"):
        found = resolve(root, name, policy=user.get("groupsPolicy", ""))
        more = (*dict.fromkeys((*found.groups, *more)),)
    else:
        uid = user.get("uid", 0)
        home = home_of(root, uid) if needs_home else "/"
        found = Identity(uid, user.get("gid", 0), (), home)
    named = (group_id(root, name) for name in user.get("additionalGroups", ()))
    return found._replace(groups=(*more, *named))


def group_id(root: int, text: str) -> int:
    """Return the number of group *text*, which may be a number already."""
    for fields in _lines(root, "/etc/group", 3):
        if fields[0] == text and (number := _id(fields[2])) is not None:
            return number
    if (number := _id(text)) is not None:
        return number
    raise StepError(f"unable to find group {text}: no matching entries in group file")


def home_of(root: int, uid: int) -> str:
    """Return the home folder of *uid*, or "/"."""
    for fields in _lines(root, "/etc/passwd", 6):
        if _id(fields[2]) == uid:
            return fields[5] or "/"
    return "/"


def _user(root: int, text: str) -> tuple[str, int, int, str]:
    number = _id(text)
    for fields in _lines(root, "/etc/passwd", 6):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is None or gid is None:
            continue
        if fields[0] == text or uid == number:
            return fields[0], uid, gid, fields[5] or "/"
    if number is None:
        raise StepError(f"unable to find user {text}: no matching entries in passwd file")
    return "", number, 0, "/"


def _memberships(root: int, name: str) -> Iterator[int]:
    for fields in _lines(root, "/etc/group", 4):
        number = _id(fields[2])
        if number is not None and name in fields[3].split(","):
            yield number


def _id(text: str) -> int | None:
    """Return *text* as an id if it is only digits and small enough; no sign, space or 0x."""
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    number = int(text)
    return number if number <= MOST_ID else None


def _lines(root: int, path: str, fields: int) -> Iterator[list[str]]:
    for count, line in enumerate(_read(root, path).splitlines()):
        if count >= _MOST_GROUPS:
            return
        parts = line.strip().split(":")
        if len(parts) >= fields and parts[0] and not parts[0].startswith(("#", "+", "-")):
            yield parts


def _read(root: int, path: str) -> str:
    """Return the beginning of a regular file; "" if it is missing, a FIFO or a device.

    Devices are not opened: an image may contain a node on which opening acts, as a watchdog's.
    """
    try:
        found = open_in_root(root, path)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                return ""
        finally:
            os.close(found)
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        data = b""
        while len(data) < _MOST_BYTES and (part := os.read(fd, 1 << 16)):
            data += part
        return data.decode(errors="surrogateescape")
    finally:
        os.close(fd)
