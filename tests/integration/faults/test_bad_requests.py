"""Requests that no client of ours would send: refused in a sentence, and nothing left."""

import json
from typing import Any

import pytest

from tests.integration.kills.scene import Scene

_DEEP = 100_000

BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "half an object": (b'{"Image": "host", "Cmd": [', 400),
    "no JSON": (b"Image=host", 400),
    "no UTF-8": (b'{"Image": "host", "Cmd": ["\xff\xfe"]}', 400),
    "a list": (b"[]", 400),
    "null": (b"null", 400),
    "a number for a name": (b'{"Image": 1}', 400),
    "an object for a command": (b'{"Image": "host", "Cmd": {"a": 1}}', 400),
    "text for a number": (b'{"Image": "host", "HostConfig": {"Memory": "lots"}}', 400),
    "a number too big": (b'{"Image": "host", "HostConfig": {"Memory": 1e400}}', 400),
    "one of 65 bits": (b'{"Image": "host", "HostConfig": {"Memory": 9999999999999999999}}', 400),
    "less than nothing": (b'{"Image": "host", "HostConfig": {"Memory": -5}}', 400),
    "a NUL in a command": (b'{"Image": "host", "Cmd": ["a\\u0000b"]}', 400),
    "a NUL in a variable": (b'{"Image": "host", "Cmd": ["true"], "Env": ["A=a\\u0000b"]}', 400),
    "a deep one": (b'{"Image":' + b"[" * _DEEP + b"]" * _DEEP + b"}", 400),
    "a long one": (b'{"Image": "' + b"x" * (20 << 20) + b'"}', 400),
    "no image": (b'{"Cmd": ["true"]}', 400),
    "an image that is not here": (b'{"Image": "no/such", "Cmd": ["true"]}', 404),
    "a path that leaves": (
        b'{"Image": "host", "Cmd": ["true"], "HostConfig": {"CgroupParent": "/../../x"}}',
        400,
    ),
}  # fmt: skip


def _assert_said(status: int, data: bytes, wanted: int) -> None:
    said = json.loads(data)["message"]
    assert status == wanted, (status, said[:300])
    assert 3 < len(said) < 600
    assert "\n" not in said.strip()
    assert "Traceback" not in said


@pytest.mark.parametrize("name", BODIES)
def test_a_create_that_cannot_be_understood_is_refused(scene: Scene, name: str) -> None:
    body, wanted = BODIES[name]
    before = len(scene.engine.log())
    status, data = scene.docker.raw("POST", "/containers/create?name=bad", body)
    _assert_said(status, data, wanted)
    assert "Traceback" not in scene.engine.log()[before:]


TARGETS: dict[str, tuple[str, str, int]] = {
    "no such route": ("GET", "/no/such/route", 404),
    "no such verb": ("PATCH", "/containers/json", 405),
    "a filter that is none": ("GET", "/containers/json?filters=%7B%22x%22:%5B%22x%22%5D%7D", 400),
    "filters that are no JSON": ("GET", "/containers/json?filters=%7B", 400),
    "a limit that is none": ("GET", "/containers/json?limit=many", 400),
    "a time that is none": ("GET", "/events?until=yesterday", 400),
    "a name that leaves": ("GET", "/containers/..%2F..%2Fetc/json", 404),
    "a signal that is none": ("POST", "/containers/WITNESS/kill?signal=NOSUCH", 400),
    "a size that is none": ("POST", "/containers/WITNESS/resize?h=-1&w=99999999", 400),
    "a condition that is none": ("POST", "/containers/WITNESS/wait?condition=never", 400),
    "no streams": ("GET", "/containers/WITNESS/logs", 400),
    "no path": ("GET", "/containers/WITNESS/archive", 400),
    "an exec that is none": ("POST", "/exec/nobody/start", 404),
    "an image without a name": ("POST", "/images/create", 400),
    "a tag without a name": ("POST", "/images/host/tag", 400),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_cannot_be_understood_is_refused(scene: Scene, name: str) -> None:
    method, target, wanted = TARGETS[name]
    before = len(scene.engine.log())
    body: Any = b"{}" if method == "POST" else None
    status, data = scene.docker.raw(method, target.replace("WITNESS", scene.witness), body)
    _assert_said(status, data, wanted)
    assert "Traceback" not in scene.engine.log()[before:]
