"""`docker compose` against a real engine, as README.md promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess

PROJECT = """
services:
  server:
    image: busybox:test
    pull_policy: never
    command: [sh, -c, "mkdir -p /data/www; hostname > /data/www/name; httpd -f -p 80 -h /data/www"]
    hostname: the-server
    volumes: [data:/data]
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/name"]
      interval: 1s
      start_period: 20s
  client:
    image: busybox:test
    pull_policy: never
    command: [sh, -c, "wget -q -O - http://server/name; sleep 600"]
    init: true
    depends_on:
      server: {condition: service_healthy}
volumes:
  data: {}
"""


@pytest.fixture
def project(engine: EngineProcess, image: str, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The words that begin each command on a project of two services."""
    del image
    file = tmp_path / "compose.yaml"
    file.write_text(PROJECT)
    words = ("compose", "--file", str(file), "--project-name", "composed")
    yield words
    engine.docker(*words, "down", "--volumes", "--timeout", "1", check=False)


def of_the_project(engine: EngineProcess) -> list[str]:
    """Return the names of containers, networks and volumes that the project has."""
    return [
        name
        for kind, column in (("container", "Names"), ("network", "Name"), ("volume", "Name"))
        for name in engine.out(kind, "ls", "--format", f"{{{{.{column}}}}}").split()
        if name.startswith("composed")
    ]


def test_a_project_goes_up_reaches_its_services_and_goes_down(
    engine: EngineProcess, project: tuple[str, ...]
) -> None:
    engine.docker(*project, "up", "--detach")
    assert "the-server" in engine.out(*project, "logs", "client")
    assert engine.out(*project, "ps", "--services").split() == ["client", "server"]
    asked = ("exec", "-T", "client", "wget", "-q", "-O", "-", "http://server/name")
    assert engine.out(*project, *asked) == "the-server"
    engine.docker(*project, "restart", "--timeout", "1", "client")
    engine.docker(*project, "up", "--detach", "--scale", "client=2", "--timeout", "1")
    assert sorted(of_the_project(engine)) == [
        "composed-client-1",
        "composed-client-2",
        "composed-server-1",
        "composed_data",
        "composed_default",
    ]
    engine.docker(*project, "down", "--volumes", "--timeout", "1")
    assert of_the_project(engine) == []
