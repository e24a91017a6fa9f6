"""A disk that is full or read-only: a clear error, and the store as it was."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_PRELUDE = """
import json, sys
from pathlib import Path
from orlop.errors import OrlopError
from orlop.model.container import Volume
from orlop.model.image import digest_of
from orlop.store.content import Content
from orlop.store.metadata import Metadata
root = Path(sys.argv[1])

def attempt(action):
    try:
        action()
    except OrlopError as error:
        return [type(error).__name__, str(error)]
    return ["", ""]
"""


def on_a_disk(place: Path, mounting: str, script: str) -> Any:
    """Run *script* with the disk that *mounting* makes at *place*, which only it sees."""
    command = f'{mounting} && exec "$@"'
    python = [sys.executable, "-c", _PRELUDE + script, str(place)]
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", *python],
        capture_output=True,
        check=False,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "disk"
    place.mkdir()
    return place


def test_a_full_disk_is_said_and_leaves_the_store_intact(place: Path) -> None:
    script = """
content = Content.create(root / "content")
kept = content.add(b"kept")
big = b"x" * (4 << 20)

def write():
    with content.writer(digest_of(big), size=len(big)) as writer:
        for start in range(0, len(big), 65536):
            writer.write(big[start : start + 65536])
        writer.commit()

said = attempt(write)
left = [ingest.name for ingest in content.abandoned()]
for name in left:
    content.discard(name)
content.verify(kept)
print(json.dumps({"said": said, "left": left, "blobs": [b.digest == kept for b in content.walk()],
                  "again": content.add(b"again")}))
"""
    got = on_a_disk(place, f"mount -t tmpfs -o size=1m none {place}", script)
    assert got["said"][0] == "ExhaustedError"
    assert "no space left" in got["said"][1]
    assert len(got["left"]) == 1  # to be gone on from, or collected
    assert got["blobs"] == [True]


@pytest.mark.parametrize("writer", ["content.writer(digest, size=1 << 30)", "content.receiver()"])
def test_a_blob_that_would_fill_the_disk_is_refused_while_there_is_space(
    place: Path, writer: str
) -> None:
    script = """
import os
content = Content.create(root / "content")
digest = digest_of(b"")
free = []

def write():
    with WRITER as writer:
        while True:
            writer.write(bytes(65536))
            status = os.statvfs(root)
            free.append(status.f_bavail * status.f_frsize)

said = attempt(write)
print(json.dumps({"said": said, "free": min(free)}))
"""
    script = script.replace("WRITER", writer)
    got = on_a_disk(place, f"mount -t tmpfs -o size=64m none {place}", script)
    assert got["said"][0] == "ExhaustedError"
    assert "would be free" in got["said"][1]
    assert got["free"] > 64 * 1024 * 1024 // 200


@pytest.mark.parametrize("driver", ["erofs", "overlay"])
@pytest.mark.parametrize(
    ("options", "count", "size"), [("size=256m", 300, 1 << 20), ("nr_inodes=2000", 3000, 0)]
)
def test_a_layer_that_would_fill_the_disk_is_refused_while_there_is_space(
    place: Path, driver: str, options: str, count: int, size: int
) -> None:
    script = """
import io, os, tarfile
from orlop.snapshots.choose import open_driver
from orlop.snapshots.interface import layer_key
driver = open_driver(str(root / "snapshots"), "DRIVER")
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w") as tar:
    for number in range(COUNT):
        info = tarfile.TarInfo(f"{number}/x")
        info.size = SIZE
        tar.addfile(info, io.BytesIO(bytes(SIZE)))
data.seek(0)
said = attempt(lambda: driver.add_layer(layer_key(digest_of(data.getvalue())), data))
print(json.dumps({"said": said, "left": sum(len(files) for _, _, files in os.walk(root))}))
"""
    for name, value in {"DRIVER": driver, "COUNT": str(count), "SIZE": str(size)}.items():
        script = script.replace(name, value)
    got = on_a_disk(place, f"mount -t tmpfs -o {options} none {place}", script)
    if driver == "erofs" and not size:  # one file, however many are in it
        assert got["said"] == ["", ""]
        return
    assert got["said"][0] == "ExhaustedError"
    assert "would be free" in got["said"][1]
    assert got["left"] == 0


def test_a_full_disk_stops_a_record_and_keeps_the_others(place: Path) -> None:
    script = """
content = Content.create(root / "content")
metadata = Metadata(root / "db", content)
metadata.volumes.add(Volume(name="before", created_ns=1))
try:
    with open(root / "filler", "wb") as filler:
        while True:
            filler.write(b"x" * 4096)
            filler.flush()
except OSError:
    pass
saved = []

def save():
    for number in range(2000):
        metadata.volumes.add(Volume(name=str(number), created_ns=1, labels={"pad": "x" * 4000}))
        saved.append(str(number))

said = attempt(save)
(root / "filler").unlink()
metadata.close()
metadata = Metadata(root / "db", content)
names = {volume.name for volume in metadata.volumes.list()}
print(json.dumps({"said": said, "same": names == {"before", *saved}}))
"""
    got = on_a_disk(place, f"mount -t tmpfs -o size=16m none {place}", script)
    assert got["said"][0] == "ExhaustedError"
    assert got["same"]


_CHANGING = """
import msgspec, os
from contextlib import suppress
from orlop.model.network import Network

content = Content.create(root / "content")

def fill():
    with suppress(OSError), open(root / "filler", "ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))

def change(metadata):
    for turn in range(1000):
        grown = Network(id=str(turn % 50), name=str(turn), options={"pad": "x" * (3000 + turn)})
        with metadata._database.write() as connection:
            row = (msgspec.json.encode(grown), grown.id)
            connection.execute("UPDATE networks SET record = ? WHERE id = ?", row)
        fill()

if os.fork() == 0:
    metadata = Metadata(root / "db", content)
    for number in range(50):
        metadata.networks.put(Network(id=str(number), name=str(number)))
    fill()
    change(metadata)
    END
    os._exit(0)
os.wait()
fill()
metadata = Metadata(root / "db", content)
change(metadata)
metadata.networks.remove("49")
names = [network.name for network in metadata.networks.list()]
print(json.dumps({"names": sorted(names, key=int), "has_reserve": metadata.has_reserve}))
"""


@pytest.mark.parametrize("end", ["metadata.close()", "os.kill(os.getpid(), 9)"])
def test_records_change_on_a_full_disk_and_when_it_is_opened_again(place: Path, end: str) -> None:
    got = on_a_disk(
        place, f"mount -t tmpfs -o size=16m none {place}", _CHANGING.replace("END", end)
    )
    assert got["has_reserve"]
    assert got["names"] == [str(number) for number in range(950, 999)]


def test_a_read_only_disk_is_said(place: Path) -> None:
    from orlop.store.content import Content
    from orlop.store.metadata import Metadata

    content = Content.create(place / "content")
    kept = content.add(b"kept")
    Metadata(place / "db", content).close()
    script = """
content = Content.create(root / "content")
[kept] = [blob.digest for blob in content.walk()]
print(json.dumps([
    attempt(lambda: content.add(b"new")),
    attempt(lambda: content.delete(kept)),
    attempt(lambda: content.publish({})),
    attempt(lambda: Metadata(root / "db", content)),
    attempt(lambda: content.verify(kept)),
]))
"""
    mounting = f"mount --bind {place} {place} && mount -o remount,bind,ro {place}"
    *refused, readable = on_a_disk(place, mounting, script)
    for name, text in refused:
        assert name == "WrongStateError"
        assert "read-only" in text
    assert readable == ["", ""]
    content.verify(kept)
