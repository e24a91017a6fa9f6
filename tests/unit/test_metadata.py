"""What is recorded is there after a restart; what is refused changes nothing."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from orlop.errors import AlreadyExistsError, CorruptError, NotFoundError, UnsupportedError
from orlop.model.container import Container, ContainerOptions, Volume
from orlop.model.image import OCI_MANIFEST, Descriptor, digest_of
from orlop.model.network import Network, Subnet
from orlop.store.content import Content
from orlop.store.metadata import (
    ImageRecord,
    LayerRecord,
    Metadata,
    dangling_name,
)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Content.create(tmp_path / "content")


@pytest.fixture
def metadata(tmp_path: Path, content: Content) -> Iterator[Metadata]:
    with Metadata(tmp_path / "metadata.db", content) as metadata:
        yield metadata


def image(name: str, version: str = "1") -> ImageRecord:
    manifest = Descriptor(
        media_type=OCI_MANIFEST, digest=digest_of(f"manifest {version}".encode()), size=10
    )
    config = digest_of(f"config {version}".encode())
    return ImageRecord(name=name, target=manifest, manifest=manifest, config=config, created_ns=1)


def container(id: str, name: str) -> Container:  # noqa: A002 (the domain's word)
    return Container(
        id=id, name=name, options=ContainerOptions(), image="host", image_name="host", created_ns=1
    )


def test_records_are_there_after_a_restart(tmp_path: Path, content: Content) -> None:
    with Metadata(tmp_path / "db", content) as metadata:
        metadata.images.put(image("docker.io/library/a:1"))
        metadata.containers.add(container("1" * 64, "one"))
        metadata.volumes.add(Volume(name="v", created_ns=1, labels={"a": "b"}))
        metadata.layers.put(LayerRecord("overlay", "sha256:x", 7, 1))
    with Metadata(tmp_path / "db", content) as metadata:
        assert metadata.images.list() == [image("docker.io/library/a:1")]
        assert metadata.containers.list() == [container("1" * 64, "one")]
        assert metadata.volumes.get("v").labels == {"a": "b"}
        assert metadata.layers.list() == [LayerRecord("overlay", "sha256:x", 7, 1)]


def test_a_killed_process_loses_nothing_it_was_told_is_saved(
    tmp_path: Path, content: Content
) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from orlop.model.container import Volume\n"
        "from orlop.store.content import Content\n"
        "from orlop.store.metadata import Metadata\n"
        "content = Content(pathlib.Path(sys.argv[2]))\n"
        "Metadata(pathlib.Path(sys.argv[1]), content).volumes.add(Volume(name='v', created_ns=1))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "db"), str(content.root)]
    assert subprocess.run(command, check=False).returncode == -9
    with Metadata(tmp_path / "db", content) as metadata:
        assert metadata.volumes.get("v").name == "v"


def test_a_write_goes_to_the_log_and_not_over_what_is_there(
    metadata: Metadata, tmp_path: Path
) -> None:
    before = (tmp_path / "metadata.db").read_bytes()
    metadata.volumes.add(Volume(name="v", created_ns=1))
    assert (tmp_path / "metadata.db").read_bytes() == before
    assert (tmp_path / "metadata.db-wal").stat().st_size > 0


def test_a_container_name_is_held_once(metadata: Metadata) -> None:
    one, two = container("1" * 64, "one"), container("2" * 64, "two")
    metadata.containers.add(one)
    metadata.containers.add(two)
    with pytest.raises(AlreadyExistsError, match="one"):
        metadata.containers.add(container("3" * 64, "one"))
    with pytest.raises(AlreadyExistsError):
        metadata.containers.save(msgspec.structs.replace(two, name="one"))
    metadata.containers.save(msgspec.structs.replace(two, name="other"))
    assert metadata.containers.get("2" * 64).name == "other"
    metadata.containers.remove("1" * 64)
    metadata.containers.remove("1" * 64)
    metadata.containers.add(container("3" * 64, "one"))
    with pytest.raises(NotFoundError):
        metadata.containers.save(one)


def test_a_network_name_is_held_once_and_a_network_may_change(metadata: Metadata) -> None:
    network = Network(id="1" * 64, name="web", subnets=(Subnet(subnet="10.1.0.0/16"),))
    metadata.networks.put(network)
    changed = msgspec.structs.replace(network, subnets=(Subnet(subnet="10.2.0.0/16"),))
    metadata.networks.put(changed)
    with pytest.raises(AlreadyExistsError, match="network with name web already exists"):
        metadata.networks.put(Network(id="2" * 64, name="web"))
    assert metadata.networks.list() == [changed]
    metadata.networks.remove(network.id)
    metadata.networks.remove(network.id)
    assert metadata.networks.list() == []


def test_containers_of_before_there_were_networks_stay_without(metadata: Metadata) -> None:
    metadata.containers.add(container("1" * 64, "old"))
    record = {"id": "1", "name": "old", "options": {"image": "i"}, "image": "i", "created_ns": 1}
    text = json.dumps({**record, "image_name": "i", "status": "exited"})
    with metadata._database.write() as connection:
        connection.execute("UPDATE containers SET record = ?", (text,))
    (old,) = metadata.containers.list()
    assert (old.options.network, old.options.networks) == ("none", {})
    assert (old.endpoints, old.ports) == ((), ())


def test_an_image_that_loses_its_last_name_stays_as_dangling(metadata: Metadata) -> None:
    old, new = image("docker.io/library/a:1", "old"), image("docker.io/library/a:1", "new")
    assert metadata.images.put(old) is None
    assert metadata.images.put(new) == old
    left = metadata.images.get(dangling_name(old.config))
    assert (left.dangling, left.target) == (True, old.target)
    metadata.images.put(image("docker.io/library/b:1", "old"))  # it has a name again
    assert [record.name for record in metadata.images.list()] == [
        "docker.io/library/a:1",
        "docker.io/library/b:1",
    ]


def test_the_layout_names_the_images_that_are_recorded(
    metadata: Metadata, content: Content
) -> None:
    metadata.images.put(image("docker.io/library/a:1"))
    (entry,) = json.loads((content.root / "index.json").read_text())["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "docker.io/library/a:1"
    metadata.images.remove("docker.io/library/a:1")
    assert json.loads((content.root / "index.json").read_text())["manifests"] == []


def test_leases_end_with_their_holder(metadata: Metadata) -> None:
    with metadata.leases.hold() as lease:
        lease.add(digest_of(b"1"), digest_of(b"2"))
        assert metadata.leases.digests() == {digest_of(b"1"), digest_of(b"2")}
    assert metadata.leases.digests() == set()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path, content: Content) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(UnsupportedError):
        Metadata(tmp_path / "db", content)


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path, content: Content) -> None:
    (tmp_path / "db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(CorruptError):
        Metadata(tmp_path / "db", content)


def test_many_threads_record_images_and_the_layout_has_them_all(
    metadata: Metadata, content: Content
) -> None:
    names = [f"docker.io/library/{number}:1" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: metadata.images.put(image(name)), names))
    assert {record.name for record in metadata.images.list()} == set(names)
    entries = json.loads((content.root / "index.json").read_text())["manifests"]
    key = "org.opencontainers.image.ref.name"
    assert {entry["annotations"][key] for entry in entries} == set(names)
