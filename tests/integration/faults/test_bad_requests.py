"""Requests that no client of ours would send: refused in a sentence, and nothing left."""

import gzip
import io
import json
import random
import tarfile
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


def _tar(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def _archive(config: bytes, **more: object) -> bytes:
    """Return an archive as `docker save` writes it, of one image, whose parts are what is given."""
    entry = {"Config": "image.json", "RepoTags": ["bad:1"], "Layers": [], **more}
    manifest = json.dumps([entry]).encode()
    return _tar(manifest_json=manifest, image_json=config, layer=b"no layer")


_CONFIG: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {}}
_CONFIG["rootfs"] = {"type": "layers", "diff_ids": []}
_ONE_LAYER = {**_CONFIG, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}

ARCHIVES: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello world" * 100,
    "noise": random.Random(1).randbytes(5000),
    "zeros": bytes(10240),
    "text in gzip": gzip.compress(b"x" * 3000),
    "half a gzip": gzip.compress(random.Random(2).randbytes(5000))[:2000],
    "half a tar": _tar(manifest_json=b"x" * 5000)[:2000],
    "a broken zstd": b"\x28\xb5\x2f\xfd" + b"b" * 160,
    "a tar of nothing": _tar(),
    "a tar of something": _tar(a=b"x"),
    "a manifest that is no JSON": _tar(manifest_json=b"nope"),
    "a manifest that is no list": _tar(manifest_json=b"{}"),
    "a deep manifest": _tar(manifest_json=b"[" * 100_000),
    "a manifest without its image": _tar(manifest_json=b'[{"Config": "x.json", "Layers": []}]'),
    "a file outside": _archive(b"{}", Config="../../../../etc/passwd"),
    "an image that is no JSON": _archive(b"nope"),
    "a name that is none": _archive(json.dumps(_CONFIG).encode(), RepoTags=["///:::"]),
    "a layer too many": _archive(json.dumps(_CONFIG).encode(), Layers=["layer"]),
    "another layer": _archive(json.dumps(_ONE_LAYER).encode(), Layers=["layer"]),
    "an index that is no JSON": _tar(**{"oci-layout": b"{}", "index_json": b"{"}),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_holds_no_image_is_refused(scene: Scene, name: str) -> None:
    before = len(scene.engine.log())
    status, data = scene.docker.raw("POST", "/images/load", ARCHIVES[name])
    _assert_said(status, data, 400)
    assert "Traceback" not in scene.engine.log()[before:]


@pytest.mark.parametrize("name", ["text", "noise", "text in gzip", "half a gzip", "half a tar"])
def test_a_root_file_system_that_is_no_tar_is_refused(scene: Scene, name: str) -> None:
    target = "/images/create?fromSrc=-&repo=bad"
    _assert_said(*scene.docker.raw("POST", target, ARCHIVES[name]), 400)


@pytest.mark.parametrize("name", ["text", "noise", "text in gzip", "half a gzip"])
def test_files_for_a_container_that_are_no_tar_are_refused(scene: Scene, name: str) -> None:
    target = f"/containers/{scene.witness}/archive?path=/tmp"
    _assert_said(*scene.docker.raw("PUT", target, ARCHIVES[name]), 400)
