"""Ranges of subordinate ids that a user namespace may use. subuid(5)."""

from orlop.errors import InvalidArgumentError
from orlop.model.oci import IDMapping

_MOST = 1 << 32
_AUTOMATIC = ("orlop", "containers", "dockremap")


def mappings(
    userns: str, *, subuid: str = "/etc/subuid", subgid: str = "/etc/subgid"
) -> tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]]:
    """Return uid and gid mappings for the mode *userns*; empty for "" and "host".

    "auto" uses the range of the first of orlop, containers and dockremap that has one;
    "FIRST:SIZE" is a range itself; any other word is a user's name.

    Raises:
        InvalidArgumentError: there is no such range.
    """
    if userns in ("", "host"):
        return (), ()
    if ":" in userns:
        given = _stacked([["", *userns.split(":")]], "")
        if not given:
            raise InvalidArgumentError(f"invalid id range {userns[:100]!r}", hint="FIRST:SIZE")
        return given, given
    names = _AUTOMATIC if userns == "auto" else (userns,)
    for name in names:
        uids, gids = _ranges(subuid, name), _ranges(subgid, name)
        if uids and gids:
            return uids, gids
    raise InvalidArgumentError(
        f"no id range for userns {userns!r}",
        hint=f'add a line such as "{names[0]}:100000:65536" to {subuid} and {subgid}',
    )


def _ranges(path: str, name: str) -> tuple[IDMapping, ...]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip().split(":") for line in file]
    except FileNotFoundError:
        return ()
    return _stacked(lines, name)


def _stacked(lines: list[list[str]], name: str) -> tuple[IDMapping, ...]:
    """Stack the ranges of *name* from container id 0 up; invalid lines are skipped."""
    result: list[IDMapping] = []
    inside = 0
    for fields in lines:
        if len(fields) != 3 or fields[0] != name:
            continue
        if not (fields[1].isdecimal() and fields[2].isdecimal()):
            continue
        first, size = int(fields[1]), int(fields[2])
        if first > 0 and size and first + size < _MOST:  # never the host's root
            result.append({"containerID": inside, "hostID": first, "size": size})
            inside += size
    return tuple(result)
