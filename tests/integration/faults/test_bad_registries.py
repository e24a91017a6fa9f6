"""Registries that lie, break or are not there: one sentence, and nothing left."""

import gzip
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.model import image as documents
from orlop.model.image import digest_of
from tests.integration.faults.clients import PROGRAMS, run
from tests.integration.images import samples, servers
from tests.integration.kills.scene import Scene

CLIENTS = sorted(PROGRAMS)
_SIZE = 400_000

Blobs = dict[str, bytes]


class Image:
    """An image of one layer, as a registry's blobs, for a test to damage."""

    def __init__(self) -> None:
        self.layer = gzip.compress(samples.tar_of({"file": os.urandom(_SIZE)}))
        self.diff_id = digest_of(gzip.decompress(self.layer))
        self.served: Blobs = {}  # what is given for a digest, where it is not the content

    def blobs(self) -> tuple[bytes, Blobs]:
        """Return the manifest and every blob by its digest."""
        config = json.dumps(
            {
                "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [self.diff_id]},
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": documents.OCI_MANIFEST,
            "config": _descriptor(config, documents.OCI_CONFIG),
            "layers": [_descriptor(self.layer, documents.OCI_LAYER_GZIP)],
        }
        blobs: Blobs = {digest_of(config): config, digest_of(self.layer): self.layer}
        return json.dumps(manifest).encode(), {**blobs, **self.served}


def _descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _other_bytes(image: Image) -> None:
    """The layer is as long as it should be, and not what it should be."""
    image.served[digest_of(image.layer)] = image.layer[:-1] + bytes([image.layer[-1] ^ 1])


def _too_short(image: Image) -> None:
    image.served[digest_of(image.layer)] = image.layer[: len(image.layer) // 2]


def _too_long(image: Image) -> None:
    image.served[digest_of(image.layer)] = image.layer + b"more"


def _broken_gzip(image: Image) -> None:
    """The digest is right: it was packed wrong."""
    middle = len(image.layer) // 2
    image.layer = image.layer[:middle] + bytes(1000) + image.layer[middle + 1000 :]


def _half_gzip(image: Image) -> None:
    image.layer = image.layer[: len(image.layer) // 2]


def _no_gzip(image: Image) -> None:
    image.layer = os.urandom(_SIZE)


def _no_tar(image: Image) -> None:
    image.layer = gzip.compress(plain := os.urandom(_SIZE))
    image.diff_id = digest_of(plain)


def _other_diff_id(image: Image) -> None:
    image.diff_id = digest_of(b"something else")


DAMAGES: dict[str, tuple[Callable[[Image], None], str]] = {
    "other bytes": (_other_bytes, "sha256:"),
    "a layer that is too short": (_too_short, "sha256:"),
    "a layer that is too long": (_too_long, "sha256:"),
    "a broken gzip": (_broken_gzip, "gzip"),
    "half a gzip": (_half_gzip, "gzip"),
    "no gzip at all": (_no_gzip, "tar"),
    "no tar in it": (_no_tar, "tar"),
    "another diff_id": (_other_diff_id, "configuration says"),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_image_is_refused(scene: Scene, client: str, name: str) -> None:
    damage, sentence = DAMAGES[name]
    image = Image()
    damage(image)
    manifest, blobs = image.blobs()

    def handle(exchange: servers.Exchange) -> None:
        wanted = exchange.path.rpartition("/")[2]
        if "/manifests/" in exchange.path:
            return exchange.reply(200, manifest, Content_Type=documents.OCI_MANIFEST)
        if wanted in blobs:
            start = int((exchange.headers.get("Range") or "bytes=0-")[6:-1])
            return exchange.reply(206 if start else 200, blobs[wanted][start:])
        return exchange.reply(200 if not wanted else 404)

    with servers.serving(handle) as server:
        failed = run(scene.engine, client, "pull", f"{server.host}/image:1")
    assert failed.code == 1, failed
    assert sentence in failed.error, failed
    assert scene.docker.ok("GET", "/images/json") == []


ANSWERS: dict[str, tuple[Callable[[servers.Exchange], None], str]] = {
    "an error of its own": (lambda x: x.reply(500, b"<html>" * 1000), "500"),
    "a manifest that is no JSON": (
        lambda x: x.reply(200, b"{", Content_Type=documents.OCI_MANIFEST),
        "manifest",
    ),
    "a manifest that is nothing": (
        lambda x: x.reply(200, b"[1]", Content_Type=documents.OCI_MANIFEST),
        "manifest",
    ),
    "a page": (lambda x: x.reply(200, b"<html>", Content_Type="text/html"), "not json"),
    "a hang-up": (lambda x: x.cut(), "127.0.0.1"),
    "a redirection to itself": (lambda x: x.reply(307, Location=x.path), "redirect"),
    "a refusal": (lambda x: x.reply(403), "refuses access"),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_registry_that_answers_nonsense_is_told_of(scene: Scene, client: str, name: str) -> None:
    answer, sentence = ANSWERS[name]
    with servers.serving(answer) as server:
        failed = run(scene.engine, client, "pull", f"{server.host}/image:1")
    assert failed.code == 1
    assert sentence in failed.error.lower(), failed


@pytest.mark.parametrize("client", CLIENTS)
def test_nobody_at_that_address_is_told_of(scene: Scene, client: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        failed = run(scene.engine, client, "pull", f"{host}/image:1")
        assert failed.code == 1
        assert host in failed.error
        assert "refused" in failed.error
        ran = run(scene.engine, client, "run", "--rm", f"{host}/image:1", "true")
        assert ran.code == 125


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unknown_image_is_named(scene: Scene, client: str, loopback_registry: str) -> None:
    name = f"{loopback_registry}/no/such:1"
    failed = run(scene.engine, client, "pull", name)
    assert failed.code == 1
    assert "no/such" in failed.error
    ran = run(scene.engine, client, "run", "--rm", name, "true")
    assert ran.code == 125
    assert "no/such" in ran.error


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("private")
    with servers.registry(folder, servers.htpasswd(folder)) as address:
        yield address


@pytest.mark.parametrize("client", CLIENTS)
def test_a_wrong_password_is_refused_and_not_kept(scene: Scene, client: str, private: str) -> None:
    words = ["login", "-u", servers.USER, "--password-stdin", private]
    failed = run(scene.engine, client, *words, given="wrong")
    assert failed.code == 1
    assert "wrong user name or password" in failed.error, failed
    kept = Path(scene.engine.home / ".docker" / "config.json")
    assert not kept.exists() or private not in kept.read_text()
    denied = run(scene.engine, client, "pull", f"{private}/image:1")
    assert denied.code == 1
