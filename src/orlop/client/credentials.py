"""Credentials for registries, in ~/.docker/config.json as docker login writes it.

Helpers ("credHelpers", "credsStore") are programs named docker-credential-NAME
that speak JSON on their standard streams.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile

from orlop.errors import CorruptError, OrlopError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Docker Hub's name in the file, for historical reasons.
HUB_KEY = "https://index.docker.io/v1/"
HUB = "docker.io"
_HELPER_TIMEOUT_S = 60


class Credentials:
    """The credentials for a registry. *identity_token* replaces a password."""

    def __init__(self, *, username: str = "", password: str = "", identity_token: str = "") -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token


def config_path() -> str:
    """Return the file's path: DOCKER_CONFIG names its folder, else it is ~/.docker."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return os.path.join(folder, "config.json")


def registry_of(image: str) -> str:
    """Return the registry of an image's name: docker.io unless its first part is a host."""
    first, slash, _ = image.partition("/")
    is_host = "." in first or ":" in first or first == "localhost"
    if not slash or not is_host or first == "index.docker.io":
        return HUB
    return first


def header_for(image: str) -> str | None:
    """Return X-Registry-Auth for *image*; None if there are no credentials for its registry."""
    registry = registry_of(image)
    found = find(registry)
    return None if found is None else header(found, registry=registry)


def config_header() -> str | None:
    """Return X-Registry-Config: the credentials of all registries that the file names."""
    config = _read()
    registries = {*(config.get("auths") or {}), *(config.get("credHelpers") or {})}
    found: dict[str, Any] = {}
    for key in registries:
        registry = HUB if key == HUB_KEY else key
        if (credentials := find(registry)) is not None:
            found[key] = json.loads(
                base64.urlsafe_b64decode(header(credentials, registry=registry))
            )
    return base64.urlsafe_b64encode(json.dumps(found).encode()).decode() if found else None


def header(credentials: Credentials, *, registry: str) -> str:
    """Return the value of X-Registry-Auth."""
    value = {"serveraddress": key_of(registry)}
    if credentials.identity_token:
        value["identitytoken"] = credentials.identity_token
    else:
        value |= {"username": credentials.username, "password": credentials.password}
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def key_of(registry: str) -> str:
    """Return the key of *registry* in the file."""
    return HUB_KEY if registry == HUB else registry


def find(registry: str) -> Credentials | None:
    """Return the credentials for *registry*, from its helper if it has one."""
    config = _read()
    key = key_of(registry)
    helper = _helper(config, registry)
    if helper:
        return _ask(helper, key)
    for spelling in (key, f"https://{key}", f"http://{key}", f"https://{key}/v1/"):
        entry = (config.get("auths") or {}).get(spelling)
        if entry:
            return _decode(entry, spelling)
    return None


def save(registry: str, credentials: Credentials) -> str:
    """Store *credentials*, in the helper if there is one; return where they are stored."""
    config = _read()
    key = key_of(registry)
    helper = _helper(config, registry)
    if helper:
        secret = credentials.identity_token or credentials.password
        name = "<token>" if credentials.identity_token else credentials.username
        _call(helper, "store", {"ServerURL": key, "Username": name, "Secret": secret})
        return f"the credential helper {helper}"
    pair = f"{credentials.username}:{credentials.password}".encode()
    entry = {"auth": base64.b64encode(pair).decode()}
    if credentials.identity_token:
        entry["identitytoken"] = credentials.identity_token
    config.setdefault("auths", {})[key] = entry
    _write(config)
    return config_path()


def forget(registry: str) -> bool:
    """Remove the credentials for *registry*; return whether there were any."""
    config = _read()
    key = key_of(registry)
    helper = _helper(config, registry)
    known = (config.get("auths") or {}).pop(key, None)
    if helper:
        _call(helper, "erase", key)
    if known is not None:
        _write(config)
    return known is not None or bool(helper)


def _helper(config: dict[str, Any], registry: str) -> str:
    helpers = config.get("credHelpers") or {}
    return str(
        helpers.get(registry) or helpers.get(key_of(registry)) or config.get("credsStore") or ""
    )


def _ask(helper: str, key: str) -> Credentials | None:
    answer = _call(helper, "get", key)
    if answer is None:
        return None
    if answer.get("Username") == "<token>":
        return Credentials(identity_token=str(answer.get("Secret", "")))
    return Credentials(username=str(answer["Username"]), password=str(answer["Secret"]))


def _call(helper: str, verb: str, request: Any) -> dict[str, Any] | None:
    """Run a helper; None if it has no entry. The request is a name or an object."""
    program = f"docker-credential-{helper}"
    text = request if isinstance(request, str) else json.dumps(request)
    try:
        done = subprocess.run(
            [program, verb],
            input=text.encode(),
            capture_output=True,
            check=False,
            timeout=_HELPER_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise UnavailableError(
            f"credential helper {program} is not installed",
            hint=f"install it, or take it out of {config_path()}",
        ) from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"credential helper {program} did not answer") from None
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        if "credentials not found" in said.lower():
            return None
        raise OrlopError(f"credential helper {program} failed: {said[:200]}")
    return dict(json.loads(done.stdout)) if verb == "get" else None


def _decode(entry: dict[str, Any], key: str) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    if "auth" not in entry or not entry["auth"]:
        if entry.get("username"):
            return Credentials(username=entry["username"], password=entry.get("password", ""))
        return Credentials(identity_token=token) if token else None
    try:
        pair = base64.b64decode(entry["auth"], validate=True).decode()
    except ValueError:
        raise CorruptError(f"{config_path()} has broken credentials for {key}") from None
    username, _, password = pair.partition(":")
    return Credentials(username=username, password=password.rstrip("\0"), identity_token=token)


def _read() -> dict[str, Any]:
    path = config_path()
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise CorruptError(f"cannot read {path}: {error}") from None
    if not isinstance(config, dict):
        raise CorruptError(f"{path} is not a JSON object")
    return config


def _write(config: dict[str, Any]) -> None:
    """Replace the file atomically, readable by its owner only."""
    path = config_path()
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".config.json-")
    try:
        with open(handle, "w", encoding="utf-8") as file:  # mkstemp made it 0600
            json.dump(config, file, indent="\t")
            file.write("\n")
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
