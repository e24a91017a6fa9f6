"""Registries that want to know who asks, with the docker command and SDK."""

from collections.abc import Iterator

import docker
import pytest

from tests.integration.engines import EngineProcess
from tests.integration.images import servers

IMAGE = "busybox:test"
pytestmark = pytest.mark.usefixtures("image")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("private")
    with servers.registry(folder, servers.htpasswd(folder)) as host:
        yield host


def login(engine: EngineProcess, host: str, password: str) -> tuple[int, str]:
    arguments = ("login", "-u", servers.USER, "--password-stdin", host)
    done = engine.docker(*arguments, input=password, check=False)
    return done.returncode, done.stdout + done.stderr


def test_login_push_and_pull_with_a_password(engine: EngineProcess, private: str) -> None:
    remote = f"{private}/team/secret:v1"
    code, said = login(engine, private, servers.PASSWORD)
    assert (code, "Login Succeeded" in said) == (0, True), said
    engine.docker("tag", IMAGE, remote)
    engine.docker("push", remote)
    engine.docker("rmi", remote)
    assert remote in engine.out("pull", remote)
    engine.docker("rmi", remote)
    engine.docker("logout", private)


def test_wrong_password_is_refused_in_a_sentence(engine: EngineProcess, private: str) -> None:
    code, said = login(engine, private, "wrong")
    assert code == 1
    assert "401" not in said.splitlines()[0]
    assert "Traceback" not in said


def test_pull_without_a_password_is_denied(engine: EngineProcess, private: str) -> None:
    done = engine.docker("pull", f"{private}/team/secret:v1", check=False)
    assert done.returncode == 1
    assert private in done.stderr


def test_registry_can_be_asked_without_pulling(
    engine: EngineProcess, loopback_registry: str
) -> None:
    remote = f"{loopback_registry}/team/asked:v1"
    engine.docker("tag", IMAGE, remote)
    engine.docker("push", remote)
    engine.docker("rmi", remote)
    client = docker.DockerClient(base_url=engine.url)
    found = client.images.get_registry_data(remote)
    assert found.id.startswith("sha256:")
    assert found.has_platform("linux/amd64")
    with pytest.raises(docker.errors.NotFound):
        client.images.get_registry_data(f"{loopback_registry}/team/nowhere:v1")
    client.close()
