"""The service Events: what happens, as it happens."""

from collections.abc import AsyncGenerator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from orlop.api.containerd import v1
from orlop.api.containerd.filters import matcher
from orlop.api.containerd.headers import namespace
from orlop.api.containerd.shapes import moment, shown_any, typed
from orlop.engine.engine import Engine
from orlop.engine.namespaces.events import ClientEvent
from orlop.errors import InvalidArgumentError
from orlop.model.clients import Typed
from orlop.model.namespace import check_identifier

_LONGEST_TOPIC = 256
_EVENTS = "containerd.events"
_IMAGES = "containerd.services.images.v1"  # events of images are of another package
_MESSAGES: dict[str, tuple[str, type[Message]]] = {
    "/namespaces/create": (f"{_EVENTS}.NamespaceCreate", v1.NameAndLabels),
    "/namespaces/update": (f"{_EVENTS}.NamespaceUpdate", v1.NameAndLabels),
    "/namespaces/delete": (f"{_EVENTS}.NamespaceDelete", v1.NameAndLabels),
    "/images/create": (f"{_IMAGES}.ImageCreate", v1.NameAndLabels),
    "/images/update": (f"{_IMAGES}.ImageUpdate", v1.NameAndLabels),
    "/images/delete": (f"{_IMAGES}.ImageDelete", v1.NameAndLabels),
    "/content/delete": (f"{_EVENTS}.ContentDelete", v1.ContentDelete),
    "/snapshot/prepare": (f"{_EVENTS}.SnapshotPrepare", v1.SnapshotPrepare),
    "/snapshot/commit": (f"{_EVENTS}.SnapshotCommit", v1.SnapshotCommit),
    "/snapshot/remove": (f"{_EVENTS}.SnapshotRemove", v1.SnapshotRemove),
    "/containers/create": (f"{_EVENTS}.ContainerCreate", v1.ContainerCreate),
    "/containers/update": (f"{_EVENTS}.ContainerUpdate", v1.ContainerUpdate),
    "/containers/delete": (f"{_EVENTS}.ContainerDelete", v1.ContainerDelete),
    "/tasks/create": (f"{_EVENTS}.TaskCreate", v1.TaskCreate),
    "/tasks/start": (f"{_EVENTS}.TaskStart", v1.TaskStart),
    "/tasks/delete": (f"{_EVENTS}.TaskDelete", v1.TaskDelete),
    "/tasks/exit": (f"{_EVENTS}.TaskExit", v1.TaskExit),
    "/tasks/oom": (f"{_EVENTS}.TaskOOM", v1.TaskState),
    "/tasks/exec-added": (f"{_EVENTS}.TaskExecAdded", v1.TaskExecAdded),
    "/tasks/exec-started": (f"{_EVENTS}.TaskExecStarted", v1.TaskExecStarted),
    "/tasks/paused": (f"{_EVENTS}.TaskPaused", v1.TaskState),
    "/tasks/resumed": (f"{_EVENTS}.TaskResumed", v1.TaskState),
}


class EventCalls:
    """Events of all namespaces: filters choose among them."""

    def __init__(self, engine: Engine) -> None:
        self._events = engine.clients.events

    async def Publish(self, request: v1.PublishRequest) -> Empty:
        self._publish(namespace(), request.topic, typed(request.event))
        return Empty()

    async def Forward(self, request: v1.ForwardRequest) -> Empty:
        envelope = request.envelope
        where = check_identifier("namespace", envelope.namespace)
        self._publish(where, envelope.topic, typed(envelope.event))
        return Empty()

    def _publish(self, where: str, topic: str, event: Typed) -> None:
        if not topic.startswith("/") or len(topic) > _LONGEST_TOPIC:
            raise InvalidArgumentError(f"invalid topic {topic[:80]!r}", hint="/WHAT/ACTION")
        self._events.publish(where, topic, event)

    async def Subscribe(self, request: v1.SubscribeRequest) -> AsyncGenerator[v1.Envelope, None]:
        wanted = matcher(request.filters)
        async for event in self._events.subscribe():
            if wanted(_matched(event)):
                yield v1.Envelope(
                    timestamp=moment(event.time_ns),
                    namespace=event.namespace,
                    topic=event.topic,
                    event=_encoded(event),
                )


def _encoded(event: ClientEvent) -> Any:
    if isinstance(event.fields, Typed):
        return shown_any(event.fields)
    name, kind = _MESSAGES[event.topic]
    return {"type_url": name, "value": kind(**_shown(event.fields)).SerializeToString()}


def _shown(fields: dict[str, Any]) -> dict[str, Any]:
    """Return *fields* with times as messages have them."""
    return {name: moment(value) if name == "exited_at" else value for name, value in fields.items()}


def _matched(event: ClientEvent) -> dict[str, object]:
    fields = event.fields if isinstance(event.fields, dict) else {}
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    return {"namespace": event.namespace, "topic": event.topic, "event": texts}
