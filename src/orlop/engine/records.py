"""The containers and pods: found by name, id or the start of an id; kept in memory and stored."""

import bisect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orlop.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, OrlopError
from orlop.model.container import Container
from orlop.store.metadata import Metadata

log = logging.getLogger(__name__)

_SHORT = 12


class Records:
    """The containers, and the pods. No cost of a change grows with their number.

    What is decided (add, save) is stored before it is seen, and refused where it
    cannot be stored. What has happened (note, remove) is seen in any case: no
    disk is too full to end and remove containers. It is stored as soon as that is
    possible; *behind* is called when it was not.
    """

    def __init__(self, metadata: Metadata, behind: Callable[[], None] = lambda: None) -> None:
        self._stored = metadata.containers
        self._behind = behind
        self._pending: set[str] = set()  # noted or removed, and not stored yet
        self._by_id = {container.id: container for container in self._stored.list()}
        self._by_name = {container.name: container.id for container in self._by_id.values()}
        self._ids = {
            is_pod: sorted(one.id for one in self._by_id.values() if one.is_pod == is_pod)
            for is_pod in (False, True)
        }
        self._unstored: set[str] = set()

    def all(self) -> list[Container]:
        """Return the containers."""
        return [one for one in self._by_id.values() if not one.is_pod]

    def pods(self) -> list[Container]:
        """Return the pods."""
        return [self._by_id[pod_id] for pod_id in self._ids[True]]

    def all_with_pods(self) -> list[Container]:
        """Return all that may be on networks."""
        return list(self._by_id.values())

    def get(self, container_id: str) -> Container:
        """Return the container with this whole id."""
        try:
            return self._by_id[container_id]
        except KeyError:
            raise _missing(container_id) from None

    def has(self, container_id: str) -> bool:
        return container_id in self._by_id

    def find(self, ref: str) -> Container:
        """Return the container that *ref* means: an id, a name, or the start of one id only."""
        return self._find(ref, is_pod=False)

    def find_pod(self, ref: str) -> Container:
        """Return the pod that *ref* means, as find() does."""
        return self._find(ref, is_pod=True)

    def _find(self, ref: str, *, is_pod: bool) -> Container:
        name, ids = ref.removeprefix("/"), self._ids[is_pod]
        whole = self._by_id.get(ref) or self._by_id.get(self._by_name.get(name, ""))
        if whole is not None and whole.is_pod == is_pod:
            return whole
        at = bisect.bisect_left(ids, ref)
        if not ref or at == len(ids) or not ids[at].startswith(ref):
            raise _missing(ref, "pod" if is_pod else "container")
        if at + 1 < len(ids) and ids[at + 1].startswith(ref):
            raise InvalidArgumentError(f"Multiple IDs found with provided prefix: {ref}")
        return self._by_id[ids[at]]

    def is_taken(self, name: str) -> bool:
        return name in self._by_name

    def check_name(self, name: str, *, of: str = "") -> None:
        """Raise AlreadyExistsError, in Docker's words, if another than *of* has *name*."""
        if self._by_name.get(name, of) != of:
            raise AlreadyExistsError(
                f'Conflict. The container name "/{name}" is already in use by container'
                f' "{self._by_name[name]}". You have to remove (or rename) that container to be'
                " able to reuse that name."
            )

    @contextmanager
    def reserve_name(self, container: Container) -> Iterator[None]:
        """Keep the name of a container that is being made for it: nobody else gets it meanwhile.

        Raise AlreadyExistsError as check_name does.
        """
        self.check_name(container.name)
        self._by_name[container.name] = container.id
        try:
            yield
        finally:
            if container.id not in self._by_id:
                del self._by_name[container.name]

    def add(self, container: Container, *, stored: bool = True) -> None:
        """Add it; what is not *stored* is known for as long as the engine runs."""
        self.check_name(container.name, of=container.id)
        if stored:
            self.catch_up()
            self._stored.add(container)
        else:
            self._unstored.add(container.id)
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id
        bisect.insort(self._ids[container.is_pod], container.id)

    def save(self, container: Container) -> None:
        """Store a change; the name may be another."""
        before = self.get(container.id)
        if before.name != container.name:
            self.check_name(container.name)
        if container.id not in self._unstored:
            self._stored.save(container)
            self._pending.discard(container.id)
        if before.name != container.name:
            del self._by_name[before.name]
            self._by_name[container.name] = container.id
        self._by_id[container.id] = container

    def note(self, container: Container) -> None:
        """Take in what has happened to it; the name stays."""
        self.get(container.id)
        self._by_id[container.id] = container
        self._store_soon(container.id)

    def remove(self, container_id: str) -> None:
        """Forget it; one that is gone is no error."""
        container = self._by_id.pop(container_id, None)
        if container is None:
            return
        self._by_name.pop(container.name, None)
        ids = self._ids[container.is_pod]
        del ids[bisect.bisect_left(ids, container_id)]
        self._store_soon(container_id)
        self._unstored.discard(container_id)

    def is_stored(self, container_id: str) -> bool:
        """Whether an engine after this one will know of it what we know."""
        return container_id not in self._pending

    @property
    def is_behind(self) -> bool:
        """Whether something is not stored that should be."""
        return bool(self._pending)

    def catch_up(self) -> None:
        """Store what could not be stored; raises what is in the way of it."""
        for container_id in list(self._pending):
            self._store(container_id)

    def _store_soon(self, container_id: str) -> None:
        try:
            self._store(container_id)
        except OrlopError as error:
            why = {"container": container_id, "why": str(error)}
            log.warning("what happened to a container cannot be stored yet", extra=why)
            self._pending.add(container_id)
            self._behind()

    def _store(self, container_id: str) -> None:
        if container_id not in self._unstored:
            if container_id in self._by_id:
                self._stored.save(self._by_id[container_id])
            else:
                self._stored.remove(container_id)
        self._pending.discard(container_id)


def _missing(ref: str, what: str = "container") -> NotFoundError:
    return NotFoundError(f"No such {what}: {ref[:200]}")


def in_its_name(error: OrlopError, container: Container) -> OrlopError:
    """Return *error* of a room that knows ids only, with the container's name for its id."""
    message = str(error.args[0]).replace(container.id, container.name)
    return type(error)(message, hint=error.hint)


def short(container_id: str) -> str:
    return container_id[:_SHORT]
