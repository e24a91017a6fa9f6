"""What containerd's clients are told of: what they do, and what happens to their tasks."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from orlop.engine.context import Context
from orlop.errors import ExhaustedError, UnavailableError
from orlop.model.clients import Typed
from orlop.model.container import Event

_BACKLOG = 4096  # events that a subscriber may be behind before it is cut off
_MOST_SUBSCRIBERS = 256


class ClientEvent(NamedTuple):
    """An event. *fields* are those of its topic, or what a client has published."""

    namespace: str
    topic: str
    time_ns: int
    fields: dict[str, Any] | Typed


#: Returns the event of a client that an event of the engine means.
Translate = Callable[[Event], ClientEvent | None]


class ClientEvents:
    """The events of all namespaces. A slow subscriber is cut off."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._queues: set[asyncio.Queue[ClientEvent | None]] = set()
        self.translate: Translate = lambda _: None

    def publish(
        self, namespace: str, topic: str, fields: Typed | None = None, **more: object
    ) -> None:
        """Tell every subscriber."""
        event = ClientEvent(namespace, topic, time.time_ns(), fields or more)
        for queue in self._queues:
            _put(queue, event)

    async def subscribe(self) -> AsyncGenerator[ClientEvent, None]:
        """Yield what happens from now on, in all namespaces."""
        if len(self._queues) >= _MOST_SUBSCRIBERS:
            raise ExhaustedError(f"{_MOST_SUBSCRIBERS} clients subscribe to events")
        queue: asyncio.Queue[ClientEvent | None] = asyncio.Queue()
        self._queues.add(queue)
        following = self._context.spawn(self._follow(queue))
        try:
            while (event := await queue.get()) is not None:
                yield event
            raise UnavailableError("the reader of events was too slow")
        finally:
            self._queues.discard(queue)
            following.cancel()

    async def _follow(self, queue: asyncio.Queue[ClientEvent | None]) -> None:
        """Pass on what the engine tells of tasks."""
        with suppress(UnavailableError):
            async for event in self._context.events.subscribe(filters={"type": ("container",)}):
                translated = self.translate(event)
                if translated is not None:
                    _put(queue, translated)
        _put(queue, None)


def _put(queue: asyncio.Queue[ClientEvent | None], event: ClientEvent | None) -> None:
    if queue.qsize() <= _BACKLOG:
        queue.put_nowait(event if queue.qsize() < _BACKLOG else None)
