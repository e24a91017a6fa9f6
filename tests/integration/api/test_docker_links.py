"""Links on the default network, with the docker command: as dockerd 26.1 has them."""

import json
from collections.abc import Iterator

import pytest

from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"
pytestmark = pytest.mark.usefixtures("image")


@pytest.fixture(autouse=True)
def _containers_removed(engine: EngineProcess) -> Iterator[None]:
    yield
    if ids := engine.out("ps", "-aq").split():
        engine.docker("rm", "-f", *ids)


def variables(engine: EngineProcess, name: str) -> dict[str, str]:
    """Return the variables of a command in the container, without those that each has."""
    pairs = (line.split("=", 1) for line in engine.out("exec", name, "env").splitlines())
    return {key: value for key, value in pairs if key not in ("PATH", "HOSTNAME", "HOME")}


def links(engine: EngineProcess, name: str) -> list[str]:
    found: list[str] = json.loads(engine.out("inspect", "-f", "{{json .HostConfig.Links}}", name))
    return found


def server(engine: EngineProcess, *words: str) -> str:
    """Start a container called my-db; return its address."""
    engine.docker("run", "-d", "--name", "my-db", *words, IMAGE, "sleep", "100")
    return engine.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "my-db")


def test_a_link_gives_name_address_ports_and_environment(engine: EngineProcess) -> None:
    ports = ["--expose", "5433", "--expose", "5432", "--expose", "53/udp"]
    address = server(engine, *ports, "-e", "A=b=c", "-e", "HOME=/x", "-e", "GIVEN=1")
    own = ["-e", "MY_DB_ENV_GIVEN=2"]
    engine.docker("run", "-d", "--name", "web", "--link", "my-db", *own, IMAGE, "sleep", "100")
    assert variables(engine, "web") == {
        "MY_DB_NAME": "/web/my-db",
        "MY_DB_ENV_A": "b=c",
        "MY_DB_ENV_GIVEN": "2",
        "MY_DB_PORT": f"udp://{address}:53",
        "MY_DB_PORT_53_UDP": f"udp://{address}:53",
        "MY_DB_PORT_53_UDP_ADDR": address,
        "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_PROTO": "udp",
        "MY_DB_PORT_5432_TCP_START": f"tcp://{address}:5432",
        "MY_DB_PORT_5432_TCP_PORT_START": "5432",
        "MY_DB_PORT_5432_TCP_END": f"tcp://{address}:5433",
        "MY_DB_PORT_5432_TCP_PORT_END": "5433",
        **{
            f"MY_DB_PORT_{port}_TCP{key}": value
            for port in ("5432", "5433")
            for key, value in {
                "": f"tcp://{address}:{port}",
                "_ADDR": address,
                "_PORT": port,
                "_PROTO": "tcp",
            }.items()
        },
    }
    hosts = engine.out("exec", "web", "cat", "/etc/hosts").splitlines()
    assert [line.split()[1] for line in hosts if line.startswith(f"{address}\t")] == ["my-db"]


def test_a_link_has_an_alias(engine: EngineProcess) -> None:
    server(engine)
    engine.docker("run", "-d", "--name", "web", "--link", "my-db:the-db", IMAGE, "sleep", "100")
    assert variables(engine, "web") == {"THE_DB_NAME": "/web/the-db"}
    assert links(engine, "web") == ["/my-db:/web/the-db"]
    engine.docker("exec", "web", "ping", "-c1", "-W2", "the-db")


def test_a_link_follows_the_other_container_to_its_new_name(engine: EngineProcess) -> None:
    server(engine)
    engine.docker("run", "-d", "--name", "web", "--link", "my-db:db", IMAGE, "sleep", "100")
    engine.docker("rename", "my-db", "other")
    assert links(engine, "web") == ["/other:/web/db"]
    engine.docker("restart", "-t", "0", "web")
    engine.docker("exec", "web", "ping", "-c1", "-W2", "other")


def test_a_start_tells_the_new_environment_of_a_linked_container(engine: EngineProcess) -> None:
    server(engine)
    engine.docker("run", "-d", "--name", "web", "--link", "my-db:db", IMAGE, "sleep", "100")
    engine.docker("rename", "web", "site")
    engine.docker("restart", "-t", "0", "site")
    assert variables(engine, "site") == {"DB_NAME": "/site/db"}


@pytest.mark.parametrize("removed", [False, True])
def test_a_container_does_not_start_while_a_linked_one_does_not_run(
    engine: EngineProcess, *, removed: bool
) -> None:
    server(engine)
    engine.docker("create", "--name", "web", "--link", "my-db:db", IMAGE, "sleep", "100")
    engine.docker(*(["rm", "-f"] if removed else ["kill"]), "my-db")
    done = engine.docker("start", "web", check=False)
    assert done.returncode == 1
    assert "Cannot link to a non running container: /" in done.stderr


def names(engine: EngineProcess, name: str) -> str:
    return engine.out("exec", name, "cat", "/etc/hosts")


def test_a_link_is_removed_from_a_container_that_runs(engine: EngineProcess) -> None:
    server(engine)
    both = ["--link", "my-db:db", "--link", "my-db:other"]
    engine.docker("run", "-d", "--name", "web", *both, IMAGE, "sleep", "100")
    engine.docker("rm", "--link", "web/db")
    assert links(engine, "web") == ["/my-db:/web/other"]
    assert variables(engine, "web") == {"OTHER_NAME": "/web/other"}
    assert "\tdb " not in names(engine, "web")
    assert "\tother " in names(engine, "web")
    engine.docker("rm", "--link", "/web/other")
    engine.docker("rm", "-f", "my-db")
    engine.docker("restart", "-t", "0", "web")
    assert variables(engine, "web") == {}


def test_a_link_is_removed_from_a_container_that_is_stopped(engine: EngineProcess) -> None:
    server(engine)
    engine.docker("run", "-d", "--name", "web", "--link", "my-db:db", IMAGE, "sleep", "100")
    engine.docker("stop", "-t", "0", "web")
    engine.docker("rm", "--link", "web/db")
    engine.docker("start", "web")
    assert variables(engine, "web") == {}
    assert "my-db" not in names(engine, "web")


def test_only_a_link_is_removed_as_a_link(engine: EngineProcess) -> None:
    server(engine)
    done = engine.docker("rm", "--link", "my-db", check=False)
    assert "cannot remove the default link name of the container" in done.stderr
    for missing in ("my-db/x", "nobody/x"):
        done = engine.docker("rm", "--link", missing, check=False)
        assert done.returncode == 1, missing
        assert "no link 'x'" in done.stderr or "No such container: nobody" in done.stderr
    assert engine.out("ps", "-q", "--no-trunc") != ""
