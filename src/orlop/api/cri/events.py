"""CRI's GetContainerEvents, from which a kubelet learns of changes without asking for lists."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from orlop.api.cri import v1
from orlop.api.cri.images import find_image
from orlop.api.cri.pods import pod_status
from orlop.api.cri.render_container import render_status
from orlop.engine.engine import Engine
from orlop.errors import NotFoundError
from orlop.model.container import Container, Event

_TYPES = {
    "create": v1.CONTAINER_CREATED_EVENT,
    "start": v1.CONTAINER_STARTED_EVENT,
    "die": v1.CONTAINER_STOPPED_EVENT,
    "destroy": v1.CONTAINER_DELETED_EVENT,
}
_FILTERS = {"type": ("container", "pod"), "event": tuple(_TYPES)}


class EventCalls:
    """Changes of pods and of their containers, each with the state of the whole pod."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetContainerEvents(
        self, _request: v1.GetEventsRequest
    ) -> AsyncGenerator[v1.ContainerEventResponse, None]:
        """Yield what happens from now on. UNAVAILABLE if the client is too slow."""
        async with aclosing(self._engine.events.subscribe(filters=_FILTERS)) as events:
            async for event in events:
                pod_id = event.id if event.type == "pod" else event.attributes.get("pod", "")
                if pod_id:
                    yield self._told(event, pod_id)

    def _told(self, event: Event, pod_id: str) -> v1.ContainerEventResponse:
        told = v1.ContainerEventResponse(
            container_id=event.id,
            container_event_type=_TYPES[event.action],
            created_at=event.time_ns,
        )
        try:
            pod = self._engine.pods.get(pod_id)
        except NotFoundError:  # this event is of its removal, or it came soon after
            return told
        told.pod_sandbox_status.CopyFrom(pod_status(pod))
        told.containers_statuses.extend(map(self._status, self._engine.pods.containers(pod_id)))
        return told

    def _status(self, container: Container) -> v1.ContainerStatus:
        return render_status(container, find_image(self._engine, container.image))
