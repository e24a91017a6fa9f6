"""Find the registries to ask for the host in a reference, in order.

Configured as in containerd: `certs.d/HOST/hosts.toml`, and `certs.d/_default/` for hosts
without a folder; containerd's docs/hosts.md. If there is no hosts.toml, Docker's form is
read (`*.crt`, `*.cert` and `*.key` in the folder).
"""

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from orlop.errors import InvalidArgumentError
from orlop.images.transport import Tls, is_loopback
from orlop.model.reference import DEFAULT_DOMAIN

CONFIG_FOLDERS = ("/etc/orlop/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d")
HUB = "registry-1.docker.io"
_ALL = ("pull", "resolve", "push")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registry to ask."""

    url: str  # up to /v2, without a final slash
    capabilities: tuple[str, ...] = _ALL
    tls: Tls = Tls()
    headers: dict[str, str] = {}
    namespace: str = ""  # the images' own registry, sent to a mirror
    primary: bool = False  # the host in the reference: the one to send credentials to

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def can(self, capability: str) -> bool:
        return capability in self.capabilities


def endpoints(domain: str, folders: Iterable[str] = CONFIG_FOLDERS) -> tuple[Endpoint, ...]:
    """Return the registries for *domain* in order; the last one is its own server.

    InvalidArgumentError if the configuration cannot be read: ignoring it might ask, and
    trust, a host that the administrator has replaced.
    """
    for folder in folders:
        for name in (domain, _spelled(domain), "_default"):
            place = Path(folder, name)
            if (place / "hosts.toml").is_file():
                return _from_toml(domain, place)
            if name != "_default" and place.is_dir():
                return (_server(domain, tls=_docker_tls(place)),)
    return (_server(domain),)


def _spelled(domain: str) -> str:
    """Return containerd's other spelling, for file systems without colons: `host_5000_`."""
    host, colon, port = domain.rpartition(":")
    return f"{host}_{port}_" if colon else domain


def _server(domain: str, *, tls: Tls = Tls()) -> Endpoint:  # noqa: B008 (a tuple)
    return Endpoint(url=_url_of(HUB if domain == DEFAULT_DOMAIN else domain), tls=tls, primary=True)


def _url_of(text: str, *, override_path: bool = False) -> str:
    if "://" not in text:
        scheme = "http" if is_loopback(_hostname(text)) else "https"
        text = f"{scheme}://{text}"
    url = text.rstrip("/")
    return url if override_path or url.endswith("/v2") else f"{url}/v2"


def _hostname(netloc: str) -> str:
    return urlsplit(f"//{netloc}").hostname or ""


def _from_toml(domain: str, place: Path) -> tuple[Endpoint, ...]:
    path = place / "hosts.toml"
    try:
        tree = tomllib.loads(path.read_text())
        tables = tree.get("host", {})
        mirrors = [_mirror(domain, url, table, place) for url, table in tables.items()]
        return (*mirrors, _toml_server(domain, tree, place))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(f"{path} is not valid: {error}") from error


def _toml_server(domain: str, tree: Mapping[str, Any], place: Path) -> Endpoint:
    default = _server(domain)
    if "server" not in tree:
        return _endpoint(default.url, tree, place, primary=True)
    url = _url_of(str(tree["server"]), override_path=bool(tree.get("override_path")))
    same = urlsplit(url).netloc in (domain, default.host)
    return _endpoint(url, tree, place, primary=True, namespace="" if same else domain)


def _mirror(domain: str, url: str, table: Mapping[str, Any], place: Path) -> Endpoint:
    url = _url_of(url, override_path=bool(table.get("override_path")))
    primary = urlsplit(url).netloc in (domain, _server(domain).host)
    return _endpoint(url, table, place, primary=primary, namespace="" if primary else domain)


def _endpoint(
    url: str, table: Mapping[str, Any], place: Path, *, primary: bool, namespace: str = ""
) -> Endpoint:
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https"):
        raise TypeError(f"{url!r} is neither http nor https")
    return Endpoint(
        url=url,
        capabilities=_capabilities(table),
        tls=Tls(
            skip_verify=bool(table.get("skip_verify", False)),
            authorities=tuple(_path(place, name) for name in _list(table.get("ca", ()))),
            client=_client(place, table.get("client", ())),
        ),
        headers={
            name: ", ".join(map(str, _list(value)))
            for name, value in table.get("header", {}).items()
        },
        namespace=namespace,
        primary=primary,
    )


def _capabilities(table: Mapping[str, Any]) -> tuple[str, ...]:
    given = _list(table.get("capabilities", _ALL))
    unknown = [name for name in given if name not in _ALL]
    if unknown:
        raise TypeError(f"unknown capability {unknown[0]!r}, expected one of {', '.join(_ALL)}")
    return tuple(given)


def _client(place: Path, value: Any) -> tuple[tuple[str, str], ...]:
    """Read `"both.pem"`, `["both.pem", …]` or `[["cert.pem", "key.pem"], …]`."""
    pairs = [
        (item, "") if isinstance(item, str) else (item[0], item[1] if len(item) > 1 else "")
        for item in _list(value)
    ]
    return tuple((_path(place, cert), key and _path(place, key)) for cert, key in pairs)


def _docker_tls(place: Path) -> Tls:
    names = sorted(os.listdir(place))
    certificates = [name for name in names if name.endswith(".cert")]
    return Tls(
        authorities=tuple(str(place / name) for name in names if name.endswith(".crt")),
        client=tuple(
            (str(place / name), str(place / f"{name.removesuffix('.cert')}.key"))
            for name in certificates
        ),
    )


def _path(place: Path, name: str) -> str:
    return str(place / name)  # an absolute name is not changed


def _list(value: Any) -> Sequence[Any]:
    return [value] if isinstance(value, str) else list(value)
