"""Docker's config.json: where `login` keeps what registries know us by, or who keeps it.

Credential helpers are programs `docker-credential-NAME`; their protocol is that
of docker-credential-helpers: a verb as argument, JSON on stdin and stdout.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from orlop.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from orlop.images.auth import Credentials, decode_basic, encode_basic
from orlop.model.reference import DEFAULT_DOMAIN

HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"
_HELPER_TIMEOUT_S = 30.0


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the file is: $DOCKER_CONFIG/config.json, or in ~/.docker."""
    folder = environment.get("DOCKER_CONFIG")
    if folder:
        return Path(folder, "config.json")
    return Path(environment.get("HOME", "/root"), ".docker", "config.json")


class DockerConfig:
    """One config.json, read anew for each question. What is not ours in it stays."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def credentials(self, domain: str) -> Credentials | None:
        """Return what is kept for a registry; None if nothing is.

        InvalidArgumentError if the file is broken, UnavailableError if a helper is.
        """
        tree = self._read()
        helper = self._helper(tree, domain)
        if helper:
            return _ask_helper(helper, _key(domain))
        for key, entry in tree.get("auths", {}).items():
            if _domain_of(key) == domain and isinstance(entry, dict):
                return self._entry(entry)
        return None

    def store(self, domain: str, credentials: Credentials) -> None:
        """Keep *credentials* for a registry: with its helper, else in the file, mode 0600."""
        tree = self._read()
        helper = self._helper(tree, domain)
        auths = tree.setdefault("auths", {})
        if helper:
            _call(helper, "store", _helper_document(domain, credentials))
            auths[_key(domain)] = {}
        elif credentials.identity_token:
            user = encode_basic(credentials.username, "")
            auths[_key(domain)] = {"auth": user, "identitytoken": credentials.identity_token}
        else:
            basic = encode_basic(credentials.username, credentials.password)
            auths[_key(domain)] = {"auth": basic}
        self._write(tree)

    def erase(self, domain: str) -> bool:
        """Forget a registry; False if nothing was kept for it."""
        tree = self._read()
        helper = self._helper(tree, domain)
        keys = [key for key in tree.get("auths", {}) if _domain_of(key) == domain]
        if helper:
            with suppress(UnavailableError):  # it keeps nothing for it
                _call(helper, "erase", _key(domain).encode())
        for key in keys:
            del tree["auths"][key]
        if keys:
            self._write(tree)
        return bool(keys)

    def _helper(self, tree: dict[str, Any], domain: str) -> str:
        helpers = {_domain_of(key): name for key, name in tree.get("credHelpers", {}).items()}
        helper = str(helpers.get(domain) or tree.get("credsStore") or "")
        if helper and not _HELPER_NAME.fullmatch(helper):
            raise InvalidArgumentError(f"{self._path} names a credential helper {helper[:50]!r}")
        return helper

    def _entry(self, entry: dict[str, Any]) -> Credentials | None:
        username, password = str(entry.get("username", "")), str(entry.get("password", ""))
        if entry.get("auth"):
            username, password = decode_basic(str(entry["auth"]))
        credentials = Credentials(
            username=username,
            password=password,
            identity_token=str(entry.get("identitytoken", "")),
            registry_token=str(entry.get("registrytoken", "")),
        )
        return credentials or None

    def _read(self) -> dict[str, Any]:
        try:
            tree = msgspec.json.decode(self._path.read_bytes() or b"{}")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except PermissionError as error:
            raise PermissionDeniedError(f"cannot read {self._path}") from error
        except msgspec.DecodeError as error:
            raise InvalidArgumentError(f"{self._path} is not JSON: {error}") from error
        tables = ("auths", "credHelpers")
        if not isinstance(tree, dict) or not all(
            isinstance(tree.get(name, {}), dict) for name in tables
        ):
            raise InvalidArgumentError(f"{self._path} is not a Docker configuration")
        return tree

    def _write(self, tree: dict[str, Any]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._path.with_name(f".config.json.{os.getpid()}")
        data = msgspec.json.format(msgspec.json.encode(tree), indent=8)
        try:
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
            beside.replace(self._path)
        finally:
            beside.unlink(missing_ok=True)


def _key(domain: str) -> str:
    return HUB_KEY if domain == DEFAULT_DOMAIN else domain


def _domain_of(key: str) -> str:
    """Return the host of a key: `https://host:1/v1/` is host:1, Docker Hub's is docker.io."""
    host = key.partition("://")[2] or key
    host = host.partition("/")[0]
    return DEFAULT_DOMAIN if host in ("index.docker.io", "registry-1.docker.io") else host


def _ask_helper(helper: str, key: str) -> Credentials | None:
    try:
        answer = msgspec.json.decode(_call(helper, "get", key.encode()), type=dict[str, str])
    except _NotKeptError:
        return None
    except msgspec.DecodeError as error:
        raise UnavailableError(f"docker-credential-{helper} gave no JSON") from error
    user, secret = answer.get("Username", ""), answer.get("Secret", "")
    if user == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=user, password=secret) or None


def _helper_document(domain: str, credentials: Credentials) -> bytes:
    secret = credentials.identity_token or credentials.password
    user = _TOKEN_USER if credentials.identity_token else credentials.username
    return msgspec.json.encode({"ServerURL": _key(domain), "Username": user, "Secret": secret})


class _NotKeptError(UnavailableError):
    """The helper works, and keeps nothing for this registry."""


def _call(helper: str, verb: str, data: bytes) -> bytes:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb], input=data, capture_output=True, timeout=_HELPER_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{program} did not work: {error}") from error
    if done.returncode == 0:
        return done.stdout
    said = (done.stdout or done.stderr).decode(errors="replace").strip()
    if "credentials not found" in said:
        raise _NotKeptError(f"{program} keeps nothing")
    raise UnavailableError(f"{program} failed: {said[:200]}")
