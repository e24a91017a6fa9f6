"""The service Containers: how tasks are to be made."""

import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from msgspec.structs import replace

from orlop.api.containerd import v1
from orlop.api.containerd.filters import matcher
from orlop.api.containerd.headers import namespace
from orlop.api.containerd.masks import masked_labels
from orlop.api.containerd.shapes import moment, shown_any, typed
from orlop.engine.engine import Engine
from orlop.errors import InvalidArgumentError
from orlop.model.clients import ClientContainer
from orlop.store.objects import Entry

_EXTENSION = "extensions."
_LABEL = "labels"


class ContainerCalls:
    """Containers by id. What runs is in the service Tasks."""

    def __init__(self, engine: Engine) -> None:
        self._containers = engine.clients.containers

    async def Get(self, request: v1.GetContainerRequest) -> v1.GetContainerResponse:
        found = self._containers.get(namespace(), request.id)
        return v1.GetContainerResponse(container=_shown(request.id, found))

    async def List(self, request: v1.ListContainersRequest) -> v1.ListContainersResponse:
        return v1.ListContainersResponse(containers=[*self._found(request)])

    async def ListStream(
        self, request: v1.ListContainersRequest
    ) -> AsyncGenerator[v1.ListContainerMessage, None]:
        for one in self._found(request):
            yield v1.ListContainerMessage(container=one)

    def _found(self, request: v1.ListContainersRequest) -> Iterator[v1.Container]:
        wanted = matcher(request.filters)
        for one in self._containers.list(namespace()):
            if wanted(_fields(one)):
                yield _shown(one.key, one.value)

    async def Create(self, request: v1.CreateContainerRequest) -> v1.CreateContainerResponse:
        asked = request.container
        made = self._containers.create(namespace(), asked.id, _parsed(asked))
        return v1.CreateContainerResponse(container=_shown(asked.id, made))

    async def Update(self, request: v1.UpdateContainerRequest) -> v1.UpdateContainerResponse:
        """Change what the mask names, or without one everything."""
        asked, where = request.container, namespace()
        before = self._containers.get(where, asked.id)
        after = _masked(before, _parsed(asked), list(request.update_mask.paths))
        changed = self._containers.update(where, asked.id, after)
        return v1.UpdateContainerResponse(container=_shown(asked.id, changed))

    async def Delete(self, request: v1.DeleteContainerRequest) -> Empty:
        self._containers.remove(namespace(), request.id)
        return Empty()


def _masked(before: ClientContainer, asked: ClientContainer, paths: list[str]) -> ClientContainer:
    if not paths:
        return replace(asked, created_ns=before.created_ns)
    changes: dict[str, Any] = {}
    of_labels = [path for path in paths if path.startswith(_LABEL)]
    if of_labels:
        changes["labels"] = masked_labels(before.labels, asked.labels, of_labels)
    for path in paths:
        if path.startswith(_EXTENSION):
            key = path.removeprefix(_EXTENSION)
            extensions = {**changes.get("extensions", before.extensions)}
            extensions.pop(key, None)
            if key in asked.extensions:
                extensions[key] = asked.extensions[key]
            changes["extensions"] = extensions
        elif path in ("extensions", "spec", "image", "snapshot_key"):
            changes[path] = getattr(asked, path)
        elif path not in of_labels:
            raise InvalidArgumentError(f"the field {path[:80]!r} cannot be changed")
    return replace(before, **changes)


def _parsed(given: v1.Container) -> ClientContainer:
    now_ns = time.time_ns()
    has_options = given.runtime.HasField("options")
    return ClientContainer(
        created_ns=now_ns,
        updated_ns=now_ns,
        labels={key: value for key, value in given.labels.items() if value},
        image=given.image,
        runtime=given.runtime.name,
        runtime_options=typed(given.runtime.options) if has_options else None,
        spec=typed(given.spec) if given.HasField("spec") else None,
        snapshotter=given.snapshotter,
        snapshot_key=given.snapshot_key,
        extensions={key: typed(value) for key, value in given.extensions.items()},
        sandbox=given.sandbox,
    )


def _shown(container_id: str, container: ClientContainer) -> v1.Container:
    options, spec = container.runtime_options, container.spec
    return v1.Container(
        id=container_id,
        labels=container.labels,
        image=container.image,
        runtime=v1.Runtime(name=container.runtime, options=shown_any(options) if options else None),
        spec=shown_any(spec) if spec else None,
        snapshotter=container.snapshotter,
        snapshot_key=container.snapshot_key,
        created_at=moment(container.created_ns),
        updated_at=moment(container.updated_ns),
        extensions={key: shown_any(value) for key, value in container.extensions.items()},
        sandbox=container.sandbox,
    )


def _fields(container: Entry[ClientContainer]) -> dict[str, object]:
    value = container.value
    return {
        "id": container.key,
        "image": value.image,
        "labels": value.labels,
        "runtime": {"name": value.runtime},
        "snapshotter": value.snapshotter,
        "snapshotkey": value.snapshot_key,
    }
