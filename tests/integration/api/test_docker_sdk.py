"""docker-py, the Python SDK of Docker, against a real engine."""

import io
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"


@pytest.fixture(scope="module")
def client(engine: EngineProcess, busybox_archive: Path) -> Iterator[Any]:
    engine.docker("load", "-i", str(busybox_archive))
    client = docker.DockerClient(base_url=engine.url, timeout=30)
    yield client
    client.close()


@pytest.fixture
def sleeper(client: Any) -> Iterator[Any]:
    container = client.containers.run(IMAGE, ["sleep", "1000"], detach=True)
    yield container
    container.remove(force=True)


def test_sdk_negotiates_a_version_and_pings(client: Any, engine: EngineProcess) -> None:
    assert client.ping()
    auto = docker.APIClient(base_url=engine.url, version="auto")
    assert auto.version()["ApiVersion"] == "1.45"
    auto.close()


def test_oldest_version_is_spoken_too(engine: EngineProcess) -> None:
    old = docker.APIClient(base_url=engine.url, version="1.24")
    assert old.info()["OSType"] == "linux"
    old.close()


def test_run_returns_the_output(client: Any) -> None:
    assert client.containers.run(IMAGE, ["echo", "hello"], remove=True) == b"hello\n"


def test_run_raises_the_exit_code_with_stderr(client: Any) -> None:
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run(IMAGE, ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert caught.value.exit_status == 3
    assert caught.value.stderr == b"bad\n"


def test_unknown_image_and_container_are_not_found(client: Any) -> None:
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("never-pulled:v0", "true")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nobody-here")


def test_exec_separates_streams_and_returns_the_code(sleeper: Any) -> None:
    code, (out, err) = sleeper.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"o\n", b"e\n")


def test_exec_socket_takes_stdin(sleeper: Any, client: Any) -> None:
    exec_id = client.api.exec_create(sleeper.id, ["cat"], stdin=True)["Id"]
    stream = client.api.exec_start(exec_id, socket=True)
    stream._sock.sendall(b"ping\n")
    assert stream._sock.recv(64) == b"\x01\0\0\0\0\0\0\x05ping\n"
    stream._response.close()
    stream.close()


def test_a_container_has_ended_when_its_attached_client_sees_the_end(client: Any) -> None:
    network = client.networks.create("seen" + uuid.uuid4().hex[:6])
    try:
        for _ in range(10):
            container = client.containers.create(IMAGE, "true", network=network.name)
            stream = client.api.attach_socket(container.id, {"stream": 1, "stdout": 1})
            container.start()
            assert stream.read() == b""
            stream._response.close()
            stream.close()
            client.networks.get(network.id).disconnect(container)
            container.reload()
            assert container.status == "exited"
            container.remove()
    finally:
        network.remove()


def test_logs_are_streamed(client: Any) -> None:
    container = client.containers.run(IMAGE, ["sh", "-c", "echo a; sleep 0.3; echo b"], detach=True)
    try:
        assert b"".join(container.logs(stream=True, follow=True)) == b"a\nb\n"
        assert container.wait()["StatusCode"] == 0
    finally:
        container.remove(force=True)


def test_logs_that_were_asked_for_outlive_their_container(client: Any) -> None:
    """Nothing is written before the follower has settled to looking seldom."""
    command = ["sh", "-c", "sleep 1; echo last words"]
    for _ in range(3):
        container = client.containers.run(IMAGE, command, detach=True)
        logs = container.logs(stream=True, follow=True)
        container.wait()
        container.remove()
        assert b"".join(logs) == b"last words\n"


def test_archives_go_in_and_out(sleeper: Any) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("f.txt")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    assert sleeper.put_archive("/tmp", data.getvalue())
    pieces, found = sleeper.get_archive("/tmp/f.txt")
    assert (found["name"], found["size"]) == ("f.txt", 3)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        file = tar.extractfile("f.txt")
        assert file is not None
        assert file.read() == b"abc"


def test_stats_stream_has_two_readings(sleeper: Any) -> None:
    stream = sleeper.stats(stream=True, decode=True)
    first, second = next(stream), next(stream)
    stream.close()
    assert first["memory_stats"]["usage"] > 0
    assert second["precpu_stats"]["system_cpu_usage"] > 0


def test_images_can_be_listed_looked_at_and_saved(client: Any) -> None:
    image = client.images.get(IMAGE)
    assert IMAGE in image.tags
    assert image.labels == {"who": "test"}
    assert any(IMAGE in listed.tags for listed in client.images.list())
    saved = b"".join(image.save(named=True))
    assert [loaded.id for loaded in client.images.load(saved)] == [image.id]


def test_push_and_pull_stream_their_progress(client: Any, loopback_registry: str) -> None:
    repository = f"{loopback_registry}/sdk/busybox"
    client.images.get(IMAGE).tag(repository, "v1")
    lines = list(client.api.push(repository, tag="v1", stream=True, decode=True))
    assert any("aux" in line for line in lines)
    assert not any("error" in line for line in lines)
    client.images.remove(f"{repository}:v1")
    assert client.images.pull(repository, tag="v1").id == client.images.get(IMAGE).id
    client.images.remove(f"{repository}:v1")


def test_failed_push_ends_its_stream_with_an_error(client: Any) -> None:
    client.images.get(IMAGE).tag("127.0.0.1:1/nowhere/x", "v1")
    lines = list(client.api.push("127.0.0.1:1/nowhere/x", tag="v1", stream=True, decode=True))
    client.images.remove("127.0.0.1:1/nowhere/x:v1")
    assert "127.0.0.1:1" in lines[-1]["error"]
    assert lines[-1]["errorDetail"]["message"] == lines[-1]["error"]


def test_volumes_can_be_made_found_and_removed(client: Any) -> None:
    name = "v" + uuid.uuid4().hex[:10]
    volume = client.volumes.create(name, labels={"a": "b"})
    assert client.volumes.get(name).attrs["Labels"] == {"a": "b"}
    assert [v.name for v in client.volumes.list(filters={"name": name})] == [name]
    volume.remove()


def test_events_are_streamed_as_they_happen(client: Any) -> None:
    events = client.events(decode=True, filters={"type": "volume"})
    volume = client.volumes.create("v" + uuid.uuid4().hex[:10])
    event = next(events)
    events.close()
    assert (event["Action"], event["Actor"]["ID"]) == ("create", volume.name)
    volume.remove()


def test_containers_are_filtered_by_label(client: Any) -> None:
    label = "l" + uuid.uuid4().hex[:10]
    container = client.containers.create(IMAGE, "true", labels={label: "1"})
    try:
        listed = client.containers.list(all=True, filters={"label": label})
        assert [c.id for c in listed] == [container.id]
        assert client.containers.list(all=True, filters={"label": f"{label}=2"}) == []
    finally:
        container.remove()
