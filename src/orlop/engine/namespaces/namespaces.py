"""containerd's namespaces. All have the same images, which are Docker's and Kubernetes' as well."""

import contextlib
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.namespaces.events import ClientEvents
from orlop.errors import AlreadyExistsError, NotFoundError, WrongStateError
from orlop.model.namespace import Namespace, check_identifier, check_labels


class Namespaces:
    """All namespaces of one engine."""

    def __init__(self, context: Context, events: ClientEvents) -> None:
        self._events = events
        self._store = context.metadata.namespaces
        self._clients = context.metadata.clients

    def create(self, name: str, labels: Mapping[str, str]) -> Namespace:
        """Make a namespace; AlreadyExistsError if it exists."""
        made = Namespace(
            name=check_identifier("namespace", name), labels=check_labels(dict(labels))
        )
        self._store.add(made)
        self._events.publish(name, "/namespaces/create", name=name, labels=made.labels)
        return made

    def get(self, name: str) -> Namespace:
        """Return the namespace; one that does not exist has no labels."""
        try:
            return self._store.get(name)
        except NotFoundError:
            return Namespace(name=check_identifier("namespace", name))

    def list(self) -> Sequence[Namespace]:
        """Return every namespace, by name."""
        return self._store.list()

    def relabel(self, name: str, labels: Mapping[str, str]) -> Namespace:
        """Replace the labels of a namespace; one without a value is removed."""
        kept = check_labels({key: value for key, value in labels.items() if value})
        changed = replace(self.get(name), labels=kept)
        self._store.put(changed)
        self._events.publish(name, "/namespaces/update", name=name, labels=kept)
        return changed

    def ensure(self, name: str) -> None:
        """Make the namespace unless it exists: one begins with the first object in it."""
        with contextlib.suppress(AlreadyExistsError):
            self._store.add(Namespace(name=check_identifier("namespace", name)))

    def remove(self, name: str) -> None:
        """Remove a namespace; NotFoundError if there is none, WrongStateError if it is used."""
        kinds = self._clients.kinds_in(name)
        if kinds:
            raise WrongStateError(f"the namespace {name} has {', '.join(f'{k}s' for k in kinds)}")
        self._store.remove(name)
        self._events.publish(name, "/namespaces/delete", name=name)
