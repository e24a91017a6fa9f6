"""Which ids of this machine the user namespaces of containers have, where none are given."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orlop.engine.records import Records
from orlop.engine.spec.idranges import mappings
from orlop.errors import ExhaustedError, InvalidArgumentError

#: Above what distributions and systemd give to users.
_FIRST, _END, _SIZE = 2017460224, (1 << 32) - (1 << 16), 1 << 16


class IDRanges:
    """Ranges for "auto" of a machine whose administrator has given none.

    A range is in use because the record of a container says so.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._held: set[str] = set()  # of containers that have no record yet

    @contextmanager
    def chosen(self, userns: str) -> Iterator[str]:
        """Give what *userns* means: for "auto" the administrator's range, or one of its own.

        Nobody else is given that one meanwhile. ExhaustedError if all are in use.
        """
        if userns != "auto" or _is_given():
            yield userns
            return
        taken = self._held.union(container.options.userns for container in self._records.all())
        ranges = (f"{first}:{_SIZE}" for first in range(_FIRST, _END, _SIZE))
        free = next((text for text in ranges if text not in taken), None)
        if free is None:
            raise ExhaustedError("no range of ids is free for a user namespace")
        self._held.add(free)
        try:
            yield free
        finally:
            self._held.discard(free)


def _is_given() -> bool:
    with suppress(InvalidArgumentError):
        return bool(mappings("auto"))
    return False
