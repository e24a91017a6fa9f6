"""Fifty clients do everything to few containers at once: right answers, and nothing is left."""

import random
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.kills.remains import adopting_orphans
from tests.integration.kills.scene import COUNT, Scene, opened

_CLIENTS, _SECONDS, _SEED = 50, 20.0, 3
_NAMES = [f"racer{number}" for number in range(4)]
_SCRIPTS = ["sleep 0.05", "exit 3", "sleep 100", COUNT]
_TWICE = {"Name": "on-failure", "MaximumRetryCount": 2}
_HOSTS: list[dict[str, Any]] = [{}, {}, {"AutoRemove": True}, {"RestartPolicy": _TWICE}]
_HOST_PATH = re.compile(r"/(sys|proc|var|run|tmp)/")

#: What is asked for: method, the rest of the path, what comes after that.
_OPERATIONS = [
    ("POST", "/start", ""),
    ("POST", "/start", ""),
    ("POST", "/pause", ""),
    ("POST", "/unpause", ""),
    ("POST", "/stop?t=0", ""),
    ("POST", "/restart?t=0", ""),
    ("POST", "/kill?signal=TERM", ""),
    ("POST", "/kill?signal=KILL", ""),
    ("POST", "/resize?h=2&w=2", ""),
    ("POST", "/update", '{"Memory": 67108864, "MemorySwap": 134217728}'),
    ("DELETE", "", ""),
    ("DELETE", "?force=1&v=1", ""),
    ("GET", "/json?size=1", ""),
    ("GET", "/top", ""),
    ("GET", "/changes", ""),
    ("GET", "/logs?stdout=1", ""),
    ("GET", "/stats?stream=0&one-shot=1", ""),
    ("GET", "/archive?path=/etc/hostname", ""),
]


@pytest.fixture
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with adopting_orphans(), opened(tmp_path_factory.mktemp("r")) as scene:
        yield scene


class Client(threading.Thread):
    """Asks for one thing after the other until it is *over*."""

    def __init__(self, scene: Scene, over: threading.Event, *, seed: int) -> None:
        super().__init__()
        self._scene = scene
        self._over = over
        self._chance = random.Random(seed)
        self.asked = 0
        self.wrong: set[str] = set()

    def run(self) -> None:
        """Note each answer that says that it is the engine's fault, or where things are."""
        asks = (self._create, self._execute, *[self._operate] * 8)
        while not self._over.is_set():
            name = self._chance.choice(_NAMES)
            try:
                what, status, said = self._chance.choice(asks)(name)
            except Exception as error:
                what, status, said = "a request", 500, repr(error)
            self.asked += 1
            if status >= 500 or (status >= 400 and _HOST_PATH.search(str(said))):
                self.wrong.add(f"{what}: {status} {said}")

    def _create(self, name: str) -> tuple[str, int, Any]:
        body = self._scene.body(self._chance.choice(_SCRIPTS), **self._chance.choice(_HOSTS))
        target = f"/containers/create?name={name}"
        return "create", *self._scene.docker.call("POST", target, body)

    def _execute(self, name: str) -> tuple[str, int, Any]:
        ask = self._scene.docker.call
        status, said = ask("POST", f"/containers/{name}/exec", {"Cmd": ["sh", "-c", "exit 3"]})
        if status >= 400:
            return "exec", status, said
        return "exec's start", *ask("POST", f"/exec/{said['Id']}/start", {"Detach": True})

    def _operate(self, name: str) -> tuple[str, int, Any]:
        method, rest, body = self._chance.choice(_OPERATIONS)
        answer = self._scene.docker.raw(method, f"/containers/{name}{rest}", body.encode() or None)
        return f"{method} {rest}", *answer


def test_fifty_clients_of_few_containers_get_right_answers(scene: Scene) -> None:
    over = threading.Event()
    clients = [Client(scene, over, seed=_SEED + number) for number in range(_CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(_SECONDS)
    over.set()
    for client in clients:
        client.join()
    assert sum(client.asked for client in clients) > _CLIENTS
    assert set().union(*(client.wrong for client in clients)) == set()
    assert "Traceback" not in scene.engine.log()
    scene.assert_alive(scene.witness)
    scene.nothing_left("all that fifty clients have asked for")
