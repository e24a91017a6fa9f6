"""pull, push, login and logout with a real registry."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import IMAGE, CommandLine


@pytest.fixture
def remote(cli: CommandLine, loopback_registry: str) -> Iterator[str]:
    """The name of an image that is in the registry, and not here."""
    name = f"{loopback_registry}/team/busybox:1"
    cli.out("tag", IMAGE, name)
    cli.out("push", name)
    cli.out("rmi", name)
    yield name
    cli.run("rmi", "-f", name)


def digest(text: str) -> str:
    assert text.startswith("sha256:")
    assert len(text) == 71
    return text


def test_image_is_pushed_and_pulled_and_quiet_prints_its_digest(
    cli: CommandLine, remote: str
) -> None:
    assert remote not in cli.out("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    pulled = digest(cli.out("pull", "-q", remote))
    assert digest(cli.out("push", "-q", remote)) == pulled
    assert pulled in cli.out("images", "--digests", "--no-trunc")
    cli.out("rmi", remote)
    repository = remote.rpartition(":")[0]
    assert digest(cli.out("pull", "-q", f"{repository}@{pulled}")) == pulled
    cli.out("rmi", f"{repository}@{pulled}")


def test_plain_progress_names_layers_and_digest(cli: CommandLine, remote: str) -> None:
    lines = cli.out("pull", remote).splitlines()
    assert lines[0] == "1: Pulling from team/busybox"
    assert any(line.startswith("Digest: sha256:") for line in lines)
    assert lines[-1].startswith("Status: ")


def test_progress_on_a_terminal_is_drawn(cli: CommandLine, remote: str) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*cli.words, "pull", remote],
        env={**cli.environment, "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # EIO: the other side is closed
            break
        seen += piece
    os.close(master)
    assert process.wait(30) == 0
    assert b"\x1b[?25l" in seen  # the cursor is hidden while something is drawn
    assert b"Digest: sha256:" in seen


def test_missing_image_is_pulled_by_run_and_the_output_stays_the_containers(
    cli: CommandLine, remote: str
) -> None:
    done = cli.run("run", "--rm", remote, "echo", "ok")
    assert (done.returncode, done.stdout) == (0, b"ok\n")
    first, *_ = done.stderr.decode().splitlines()
    assert first == f"Unable to find image '{remote}' locally"


def test_image_that_is_nowhere_is_named(cli: CommandLine, loopback_registry: str) -> None:
    missing = f"{loopback_registry}/no/such:1"
    for words, code in ((("pull", missing), 1), (("run", "--rm", missing), 125)):
        done = cli.run(*words)
        assert done.returncode == code
        last = done.stderr.decode().splitlines()[-1]
        assert last.startswith("orlop: ")
        assert missing in last


def test_login_is_kept_and_logout_forgets(
    cli: CommandLine, loopback_registry: str, tmp_path: Path
) -> None:
    config = tmp_path / "docker"
    cli = CommandLine({**cli.environment, **orlop_variables(cli), "DOCKER_CONFIG": str(config)})
    words = ("login", "-u", "me", "--password-stdin", loopback_registry)
    assert cli.out(*words, stdin=b"secret\n") == "Login Succeeded"
    assert loopback_registry in json.loads((config / "config.json").read_text())["auths"]
    cli.out("logout", loopback_registry)
    assert json.loads((config / "config.json").read_text())["auths"] == {}


def orlop_variables(cli: CommandLine) -> dict[str, str]:
    return {k: v for k, v in cli.environment.items() if k.startswith("ORLOP_")}


def test_all_tags_of_a_repository_are_pulled_at_once(cli: CommandLine, remote: str) -> None:
    repository = remote.rpartition(":")[0]
    cli.out("pull", remote)
    cli.out("tag", remote, f"{repository}:2")
    cli.out("push", f"{repository}:2")
    names = (remote, f"{repository}:2")
    cli.out("rmi", *names)
    try:
        cli.out("pull", "--all-tags", repository)
        assert set(names) <= set(cli.out("images", "--format", "{{.Repository}}:{{.Tag}}").split())
        assert cli.run("pull", "-a", remote).returncode == 1
    finally:
        cli.run("rmi", "-f", f"{repository}:2")
