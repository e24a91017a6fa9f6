"""`ctr events`, and events that clients publish."""

import json
import re
import selectors
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from orlop.api.containerd import v1
from tests.integration.containerd.conftest import Ctr
from tests.integration.engines import EngineProcess

NAME = "docker.io/library/busybox:test"


class Events:
    """The service's calls, spoken by hand."""

    def __init__(self, engine: EngineProcess) -> None:
        self._channel = grpc.insecure_channel(f"unix:{engine.run / 'containerd.sock'}")
        service = "/containerd.services.events.v1.Events"
        self._subscribe = self._channel.unary_stream(
            f"{service}/Subscribe",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=v1.Envelope.FromString,
        )
        self._publish = self._channel.unary_unary(
            f"{service}/Publish",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=bytes,
        )

    def publish(self, topic: str) -> None:
        """Publish an event in the namespace "blue"."""
        event = {"type_url": "containerd.events.ContentDelete", "value": b""}
        headers = (("containerd-namespace", "blue"),)
        request = v1.PublishRequest(topic=topic, event=event)
        self._publish(request, metadata=headers, timeout=20)

    def subscribe(self, *filters: str) -> Any:
        """Return the stream of events; it has begun."""
        heard = self._subscribe(v1.SubscribeRequest(filters=filters), timeout=20)
        heard.initial_metadata()
        return heard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


class Watch:
    """What a running `ctr events` has printed: topics, and what the events say."""

    def __init__(self, engine: EngineProcess) -> None:
        address = str(engine.run / "containerd.sock")
        words = ["ctr", "--address", address, "events"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self._lines = self._events()

    def _events(self) -> Iterator[tuple[str, dict[str, object]]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.fullmatch(r".* UTC (\S+) (\S+) (\{.*\})\n", line)
            assert found is not None, line
            yield found[2], json.loads(found[3])

    def until(self, topic: str) -> list[tuple[str, dict[str, object]]]:
        """Return the events up to one of *topic*."""
        found = []
        for event in self._lines:
            found.append(event)
            if event[0] == topic:
                break
        return found

    def await_subscription(self, engine: EngineProcess) -> None:
        """Publish until an event comes: clients are not told when they have subscribed."""
        assert self._process.stdout is not None
        ready = selectors.DefaultSelector()
        ready.register(self._process.stdout, selectors.EVENT_READ)
        with Events(engine) as events:
            for _ in range(200):
                events.publish("/probe/again")
                if ready.select(0.05):
                    break
            events.publish("/probe/over")
        self.until("/probe/over")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def watch(engine: EngineProcess) -> Iterator[Watch]:
    """A running `ctr events`, which has subscribed."""
    watch = Watch(engine)
    try:
        watch.await_subscription(engine)
        yield watch
    finally:
        watch.close()


def test_a_task_is_told_of_from_its_making_to_its_end(
    watch: Watch, ctr: Ctr, busybox_archive: Path
) -> None:
    ctr("images", "import", "--no-unpack", str(busybox_archive))
    assert watch.until("/images/create")[-1][1]["name"] == NAME
    ctr("run", "--rm", NAME, "one", "true")
    events = watch.until("/containers/delete")
    topics = [topic for topic, _ in events]
    assert topics[topics.index("/containers/create") :] == [
        "/containers/create",
        "/tasks/create",
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
        "/snapshot/remove",
        "/containers/delete",
    ]
    told = dict(events)
    assert told["/tasks/start"]["pid"] == told["/tasks/exit"]["pid"]
    assert told["/tasks/exit"].get("exit_status", 0) == 0


def test_what_a_client_publishes_is_passed_on(engine: EngineProcess) -> None:
    with Events(engine) as events:
        heard = events.subscribe("topic~=^/x/")
        events.publish("/y/z")
        events.publish("/x/y")
        envelope = next(heard)
        assert (envelope.namespace, envelope.topic) == ("blue", "/x/y")
        assert envelope.event.type_url == "containerd.events.ContentDelete"
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            events.publish("x")
        heard.cancel()
