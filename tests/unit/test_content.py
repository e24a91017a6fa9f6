"""Blobs appear whole, verified and once."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orlop.errors import CorruptError, InvalidArgumentError, NotFoundError
from orlop.model.digest import Digest
from orlop.model.image import Descriptor, digest_of
from orlop.store.content import Content

DATA = b"some bytes" * 1000
DIGEST = digest_of(DATA)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Content.create(tmp_path / "content")


def write(content: Content, data: bytes, digest: Digest = DIGEST, size: int | None = None) -> None:
    with content.writer(digest, size=size) as writer:
        writer.write(data)
        writer.commit()


def test_the_store_is_an_oci_image_layout(content: Content) -> None:
    layout = json.loads((content.root / "oci-layout").read_text())
    assert layout == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((content.root / "index.json").read_text())["schemaVersion"] == 2
    Content.create(content.root)  # again is no error


def test_a_blob_is_read_only_and_found_by_its_digest(content: Content) -> None:
    write(content, DATA, size=len(DATA))
    path = content.root / "blobs" / "sha256" / DIGEST.removeprefix("sha256:")
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o444
    assert content.has(DIGEST)
    assert content.size(DIGEST) == len(DATA)
    assert [blob.digest for blob in content.walk()] == [DIGEST]
    content.verify(DIGEST)
    content.delete(DIGEST)
    content.delete(DIGEST)
    assert not content.has(DIGEST)


@pytest.mark.parametrize("data", [b"x" + DATA[1:], DATA[:-1], DATA + b"x", b""])
def test_wrong_bytes_never_become_a_blob(content: Content, data: bytes) -> None:
    with pytest.raises(CorruptError):
        write(content, data, size=len(DATA))
    assert not content.has(DIGEST)
    assert list(content.abandoned()) == []


def test_an_interrupted_download_is_gone_on_from(content: Content) -> None:
    with content.writer(DIGEST, size=len(DATA)) as writer:
        writer.write(DATA[:700])
    assert [ingest.size for ingest in content.abandoned()] == [700]
    with content.writer(DIGEST, size=len(DATA)) as writer:
        assert writer.offset == 700
        writer.write(DATA[700:])
        writer.commit()
    assert content.has(DIGEST, len(DATA))
    assert list(content.abandoned()) == []


def test_what_a_live_writer_holds_is_not_discarded(content: Content) -> None:
    with content.writer(DIGEST) as writer:
        writer.write(DATA)
        assert list(content.abandoned()) == []
        content.discard(DIGEST.removeprefix("sha256:"))
        writer.commit()
    assert content.has(DIGEST)


def test_two_writers_of_one_blob_take_turns(content: Content) -> None:
    found: list[bool] = []

    def second() -> None:
        with content.writer(DIGEST, size=len(DATA)) as writer:
            found.append(writer.done)

    with content.writer(DIGEST, size=len(DATA)) as writer:
        thread = threading.Thread(target=second)
        thread.start()
        writer.write(DATA)
        writer.commit()
    thread.join()
    assert found == [True]
    assert list(content.abandoned()) == []


def test_a_killed_writer_leaves_no_lock_and_no_blob(content: Content) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from orlop.store.content import Content\n"
        "writer = Content(pathlib.Path(sys.argv[1])).writer(sys.argv[2])\n"
        "writer.write(b'some bytes' * 10)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, content.root, DIGEST], check=False)
    assert killed.returncode == -9
    assert not content.has(DIGEST)
    assert [ingest.size for ingest in content.abandoned()] == [100]
    with content.writer(DIGEST) as writer:
        writer.write(DATA[writer.offset :])
        writer.commit()
    content.verify(DIGEST)


def test_damage_on_disk_is_seen_when_a_document_is_read(content: Content) -> None:
    document = Descriptor(digest=DIGEST, size=len(DATA))
    with pytest.raises(NotFoundError):
        content.read(document)
    write(content, DATA)
    assert content.read(document) == DATA
    path = content.path(DIGEST)
    path.unlink()
    path.write_bytes(DATA[:-1] + b"x")
    with pytest.raises(CorruptError):
        content.read(document)
    with pytest.raises(CorruptError):
        content.verify(DIGEST)


def test_a_short_blob_as_a_power_failure_leaves_it_counts_as_missing(content: Content) -> None:
    write(content, DATA)
    content.path(DIGEST).chmod(0o600)
    os.truncate(content.path(DIGEST), 10)
    assert not content.has(DIGEST, len(DATA))
    write(content, DATA, size=len(DATA))
    assert content.has(DIGEST, len(DATA))


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha256:" + "A" * 64, "sha512:" + "a" * 128])
def test_a_digest_that_is_none_reaches_no_path(content: Content, digest: str) -> None:
    with pytest.raises(InvalidArgumentError):
        content.path(Digest(digest))


def test_a_document_is_stored_once(content: Content) -> None:
    assert content.add(b"{}") == content.add(b"{}", durable=True)
    assert len(list(content.walk())) == 1
