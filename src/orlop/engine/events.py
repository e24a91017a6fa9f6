"""What happened, for who wants to know: a bounded past and a live stream."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from orlop.engine.requests import NO_FILTERS, Filters
from orlop.errors import InvalidArgumentError, UnavailableError
from orlop.model.container import Event

_REMEMBERED = 1024  # events kept for `since`
_BACKLOG = 4096  # events a subscriber may be behind before it is cut off


class Events:
    """The engine's events. A slow subscriber is cut off; it never holds up the engine."""

    def __init__(self) -> None:
        self._past: deque[Event] = deque(maxlen=_REMEMBERED)
        self._subscribers: set[asyncio.Queue[Event | None]] = set()

    @property
    def subscribers(self) -> int:
        return len(self._subscribers)

    def publish(self, type: str, action: str, *, id: str, attributes: dict[str, str]) -> None:  # noqa: A002
        """Tell every subscriber, and remember it."""
        event = Event(
            type=type, action=action, id=id, attributes=attributes, time_ns=time.time_ns()
        )
        self._past.append(event)
        for queue in self._subscribers:
            if queue.qsize() <= _BACKLOG:
                queue.put_nowait(event if queue.qsize() < _BACKLOG else None)

    async def subscribe(
        self, *, since_ns: int = 0, until_ns: int = 0, filters: Filters = NO_FILTERS
    ) -> AsyncGenerator[Event, None]:
        """Yield what happened since *since_ns*, then what happens, until *until_ns* (0: for ever).

        With since_ns 0 only what happens from now on. Pods are told of only if the filter
        "type" names them. UnavailableError when the reader is too slow.
        """
        wanted = matcher(filters)
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        past = [event for event in self._past if since_ns and event.time_ns >= since_ns]
        self._subscribers.add(queue)
        try:
            for event in past:
                if wanted(event) and (not until_ns or event.time_ns <= until_ns):
                    yield event
            async for event in _live(queue, until_ns):
                if wanted(event):
                    yield event
        finally:
            self._subscribers.discard(queue)


async def _live(queue: "asyncio.Queue[Event | None]", until_ns: int) -> AsyncIterator[Event]:
    while True:
        left = (until_ns - time.time_ns()) / 1e9 if until_ns else None
        if left is not None and left <= 0:
            return
        try:
            event = await asyncio.wait_for(queue.get(), left)
        except TimeoutError:
            return
        if event is None:
            raise UnavailableError("the reader of events was too slow", hint="ask again with since")
        yield event


def matcher(filters: Filters) -> Callable[[Event], bool]:
    """Return the test that Docker's *filters* mean; InvalidArgumentError for an unknown one."""
    for name in filters:
        if name not in _TESTS:
            raise InvalidArgumentError(f"invalid filter '{name}'")

    def matches(event: Event) -> bool:
        if event.type == "pod" and "pod" not in filters.get("type", ()):
            return False
        return all(_TESTS[name](event, values) for name, values in filters.items() if values)

    return matches


def _is_type(event: Event, values: Sequence[str]) -> bool:
    return event.type in values


def _is_action(event: Event, values: Sequence[str]) -> bool:
    return any(event.action == value or event.action.startswith(value + ":") for value in values)


def _names(kind: str) -> Callable[[Event, Sequence[str]], bool]:
    def test(event: Event, values: Sequence[str]) -> bool:
        if event.type != kind:
            return False
        name = event.attributes.get("name", "")
        return any(value == name or event.id.startswith(value) for value in values)

    return test


def _of_image(event: Event, values: Sequence[str]) -> bool:
    image = event.attributes.get("image", "")
    names = {event.id, event.attributes.get("name", "")} if event.type == "image" else set()
    return any(value in names or value in (image, image.partition(":")[0]) for value in values)


def _has_labels(event: Event, values: Sequence[str]) -> bool:
    pairs = (value.partition("=") for value in values)
    return all(
        key in event.attributes and (not equals or event.attributes[key] == value)
        for key, equals, value in pairs
    )


_TESTS: dict[str, Callable[[Event, Sequence[str]], bool]] = {
    "type": _is_type,
    "event": _is_action,
    "container": _names("container"),
    "volume": _names("volume"),
    "network": _names("network"),
    "daemon": _names("daemon"),
    "image": _of_image,
    "label": _has_labels,
    "scope": lambda _event, values: "local" in values,
}
