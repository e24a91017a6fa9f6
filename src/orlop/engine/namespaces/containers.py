"""Containers as containerd's clients see them: how a task is to be made."""

import time
from collections.abc import Sequence

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.namespaces.events import ClientEvents
from orlop.engine.namespaces.namespaces import Namespaces
from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.model.clients import ClientContainer
from orlop.model.namespace import check_identifier, check_labels
from orlop.store.objects import Entry

_MOST_BYTES = 4 << 20  # of a spec, and of all extensions


class ClientContainers:
    """The containers of all namespaces."""

    def __init__(self, context: Context, namespaces: Namespaces, events: ClientEvents) -> None:
        self._events = events
        self._store = context.metadata.clients.containers
        self._namespaces = namespaces

    def get(self, namespace: str, container_id: str) -> ClientContainer:
        """Return the container; NotFoundError if there is none."""
        return self._store.get(namespace, container_id)

    def list(self, namespace: str) -> Sequence[Entry[ClientContainer]]:
        """Return the containers of a namespace."""
        return self._store.list(namespace)

    def create(
        self, namespace: str, container_id: str, container: ClientContainer
    ) -> ClientContainer:
        """Record a container; AlreadyExistsError."""
        check_identifier("container", container_id)
        _check(container)
        self._namespaces.ensure(namespace)
        self._store.add(namespace, container_id, container)
        self._events.publish(
            namespace,
            "/containers/create",
            id=container_id,
            image=container.image,
            runtime={"name": container.runtime},
        )
        return container

    def update(
        self, namespace: str, container_id: str, container: ClientContainer
    ) -> ClientContainer:
        """Replace the container; its task, if there is one, goes on as it was made."""
        before = self.get(namespace, container_id)
        _check(container)
        changed = replace(container, task=before.task, updated_ns=time.time_ns())
        self._store.put(namespace, container_id, changed)
        self._events.publish(
            namespace,
            "/containers/update",
            id=container_id,
            image=changed.image,
            labels=changed.labels,
            snapshot_key=changed.snapshot_key,
        )
        return changed

    def remove(self, namespace: str, container_id: str) -> None:
        """Forget the container; WrongStateError while it has a task."""
        if self.get(namespace, container_id).task is not None:
            raise WrongStateError(
                f"the container {container_id} has a task", hint="delete the task first"
            )
        self._store.remove(namespace, container_id)
        self._events.publish(namespace, "/containers/delete", id=container_id)


def _check(container: ClientContainer) -> None:
    check_labels(container.labels)
    values = [*container.extensions.values(), container.spec, container.runtime_options]
    if sum(len(one.value) for one in values if one is not None) > _MOST_BYTES:
        raise InvalidArgumentError(f"spec and extensions have more than {_MOST_BYTES} bytes")
