"""Credentials as Docker's files, helpers and headers give them."""

import base64
import json
import stat
from pathlib import Path

import msgspec
import pytest

from orlop.errors import InvalidArgumentError, UnavailableError
from orlop.images.auth import Credentials, parse_challenges, parse_registry_auth
from orlop.images.dockerconfig import DockerConfig, config_path
from orlop.images.hosts import Endpoint
from orlop.images.registry import Source
from orlop.images.transport import Tls

LOGIN = Credentials(username="me", password="pass:word")


@pytest.fixture
def config(tmp_path: Path) -> DockerConfig:
    return DockerConfig(tmp_path / "docker" / "config.json")


def header(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, None),
        ({"username": "me", "password": "pass:word", "serveraddress": "x", "email": ""}, LOGIN),
        ({"auth": base64.b64encode(b"me:pass:word").decode()}, LOGIN),
        ({"identitytoken": "t"}, Credentials(identity_token="t")),
        ({"registrytoken": "t"}, Credentials(registry_token="t")),
    ],
)
def test_the_header_of_an_api_request_carries_a_login(
    document: object, expected: Credentials | None
) -> None:
    assert parse_registry_auth(header(document)) == expected
    assert parse_registry_auth(header(document).rstrip("=")) == expected


@pytest.mark.parametrize("text", ["%%%", "bm8gSlNPTg==", header([1]), header({"username": 7})])
def test_a_header_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_registry_auth(text)


def test_no_header_is_nobody() -> None:
    assert parse_registry_auth("") is None


def test_a_challenge_is_taken_apart() -> None:
    value = 'Bearer realm="https://a/t?x=1",service="s, p",scope="repository:a/b:pull,push"'
    assert parse_challenges([value, "Basic realm=x"]) == {
        "bearer": {
            "realm": "https://a/t?x=1",
            "service": "s, p",
            "scope": "repository:a/b:pull,push",
        },
        "basic": {"realm": "x"},
    }
    assert parse_challenges(["", "Negotiate", 'Bearer realm="a\\"b"']) == {
        "negotiate": {},
        "bearer": {"realm": 'a"b'},
    }


def test_secrets_are_not_shown_when_credentials_are_printed() -> None:
    assert "pass" not in repr(LOGIN)


def test_a_source_can_be_told_to_a_worker() -> None:
    source = Source(
        repository="a/b",
        endpoints=(Endpoint(url="https://x/v2", tls=Tls(authorities=("/ca",)), primary=True),),
        credentials=LOGIN,
    )
    assert msgspec.json.decode(msgspec.json.encode(source), type=Source) == source


def test_a_login_is_kept_for_its_registry_only_and_only_we_may_read_it(
    config: DockerConfig, tmp_path: Path
) -> None:
    path = tmp_path / "docker" / "config.json"
    config.store("localhost:5000", LOGIN)
    config.store("docker.io", Credentials(username="hub", password="x"))
    assert config.credentials("localhost:5000") == LOGIN
    assert config.credentials("localhost") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())["auths"]) == {
        "localhost:5000",
        "https://index.docker.io/v1/",
    }
    assert config.erase("localhost:5000")
    assert not config.erase("localhost:5000")
    assert config.credentials("docker.io") == Credentials(username="hub", password="x")


def test_what_others_wrote_into_the_file_stays(config: DockerConfig, tmp_path: Path) -> None:
    path = tmp_path / "docker" / "config.json"
    path.parent.mkdir()
    path.write_text('{"psFormat": "x", "auths": {"https://old.example/v1/": {"auth": "YTpi"}}}')
    assert config.credentials("old.example") == Credentials(username="a", password="b")
    config.store("new.example", LOGIN)
    assert json.loads(path.read_text())["psFormat"] == "x"
    config.store("token.example", Credentials(username="a", identity_token="t"))
    assert config.credentials("token.example") == Credentials(username="a", identity_token="t")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": 7}', '{"auths": {"x": {"auth": "!"}}}', '{"credsStore": "../x"}']
)
def test_a_broken_file_is_said_to_be_broken(
    config: DockerConfig, tmp_path: Path, text: str
) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(text)
    with pytest.raises(InvalidArgumentError):
        config.credentials("x")


HELPER = """#!/bin/sh
store="$(dirname "$0")/kept"
case "$1" in
  get) read -r host; [ -e "$store" ] && cat "$store" && exit 0
       echo "credentials not found in native keychain"; exit 1 ;;
  store) cat > "$store" ;;
  erase) rm -f "$store" ;;
esac
"""


@pytest.mark.parametrize("login", [LOGIN, Credentials(identity_token="t")])
def test_a_credential_helper_keeps_the_login_and_the_file_does_not(
    config: DockerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: Credentials
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker-credential-test").write_text(HELPER)
    (programs / "docker-credential-test").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    path = tmp_path / "docker" / "config.json"
    path.parent.mkdir()
    path.write_text('{"credHelpers": {"x.example": "test"}}')
    assert config.credentials("x.example") is None
    config.store("x.example", login)
    assert config.credentials("x.example") == login
    assert json.loads(path.read_text())["auths"] == {"x.example": {}}
    config.erase("x.example")
    assert config.credentials("x.example") is None


def test_a_helper_that_is_missing_is_named(config: DockerConfig, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text('{"credsStore": "no-such-helper"}')
    with pytest.raises(UnavailableError, match="docker-credential-no-such-helper"):
        config.credentials("x.example")


def test_the_file_is_where_docker_looks_for_it() -> None:
    assert config_path({"HOME": "/h"}) == Path("/h/.docker/config.json")
    assert config_path({"HOME": "/h", "DOCKER_CONFIG": "/c"}) == Path("/c/config.json")
