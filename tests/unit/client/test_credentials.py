"""User names and passwords in Docker's configuration and in credential helpers."""

import base64
import json
import stat
from pathlib import Path

import pytest

from orlop.client import credentials
from orlop.errors import CorruptError, OrlopError, UnavailableError

HELPER = """#!/bin/sh
read line
echo "$1 $line" >> "$(dirname "$0")/calls"
case "$1 $line" in
    "get known.example") echo '{"ServerURL":"x","Username":"u","Secret":"s"}' ;;
    "get token.example") echo '{"Username":"<token>","Secret":"t"}' ;;
    "get broken.example") echo 'it broke' >&2; exit 1 ;;
    get*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def helper(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A helper named "test" that is set for every registry; returns the log of its calls."""
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    config.parent.mkdir()
    config.write_text(json.dumps({"credsStore": "test"}))
    return program.parent / "calls"


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("alpine", "docker.io"),
        ("team/app", "docker.io"),
        ("docker.io/library/alpine", "docker.io"),
        ("localhost/app", "localhost"),
        ("127.0.0.1:5000/app:1", "127.0.0.1:5000"),
        ("registry.example/a/b@sha256:1", "registry.example"),
    ],
)
def test_registry_is_the_first_part_if_it_is_a_host(image: str, registry: str) -> None:
    assert credentials.registry_of(image) == registry


def test_what_is_saved_is_found_and_only_its_owner_can_read_it(config: Path) -> None:
    given = credentials.Credentials(username="u", password="p:w")
    assert credentials.save("r.example", given) == str(config)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert json.loads(config.read_text()) == {
        "auths": {"r.example": {"auth": base64.b64encode(b"u:p:w").decode()}}
    }
    found = credentials.find("r.example")
    assert found is not None
    assert (found.username, found.password) == ("u", "p:w")


def test_saving_keeps_what_else_is_in_the_file(config: Path) -> None:
    config.parent.mkdir()
    config.write_text('{"psFormat": "x", "auths": {"a": {"auth": "dTpw"}}}')
    credentials.save("b", credentials.Credentials(username="u", password="p"))
    kept = json.loads(config.read_text())
    assert (kept["psFormat"], sorted(kept["auths"])) == ("x", ["a", "b"])


def test_forgotten_is_gone() -> None:
    credentials.save("r.example", credentials.Credentials(username="u", password="p"))
    assert credentials.forget("r.example") is True
    assert credentials.find("r.example") is None
    assert credentials.forget("r.example") is False


def test_hub_has_its_historical_name(config: Path) -> None:
    credentials.save("docker.io", credentials.Credentials(username="u", password="p"))
    assert "https://index.docker.io/v1/" in config.read_text()
    header = credentials.header_for("alpine")
    assert header is not None
    assert json.loads(base64.urlsafe_b64decode(header)) == {
        "serveraddress": "https://index.docker.io/v1/",
        "username": "u",
        "password": "p",
    }


def test_helper_is_asked(helper: Path) -> None:
    found = credentials.find("known.example")
    assert found is not None
    assert (found.username, found.password) == ("u", "s")
    token = credentials.find("token.example")
    assert token is not None
    assert token.identity_token == "t"
    assert credentials.find("unknown.example") is None


def test_helper_keeps_and_erases_and_the_file_does_not(helper: Path, config: Path) -> None:
    credentials.save("r.example", credentials.Credentials(username="u", password="secret"))
    credentials.forget("r.example")
    assert "secret" not in config.read_text()
    store, erase = helper.read_text().splitlines()
    assert store.startswith("store {")
    assert erase == "erase r.example"


def test_failing_and_missing_helpers_are_named(
    helper: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OrlopError, match="docker-credential-test failed: it broke"):
        credentials.find("broken.example")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(UnavailableError, match="docker-credential-test is not installed"):
        credentials.find("known.example")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"r.example": {"auth": "?"}}}'])
def test_broken_file_is_named(config: Path, text: str) -> None:
    config.parent.mkdir()
    config.write_text(text)
    with pytest.raises(CorruptError, match=r"config\.json"):
        credentials.find("r.example")
