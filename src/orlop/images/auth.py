"""Authenticate to a registry: credentials, and the tokens that they are exchanged for.

The token flow: distribution's "Token Authentication Specification" and its OAuth2 form.
Credentials are sent only to their own host, and to the token server that this host names.
"""

import base64
import http.client
import io
import re
import threading
from collections.abc import Callable, Iterable
from urllib.parse import urlencode, urlsplit

import msgspec

from orlop.errors import PermissionDeniedError, UnavailableError
from orlop.images.hosts import HUB, Endpoint
from orlop.images.transport import Answer, Request
from orlop.model.reference import DEFAULT_DOMAIN

_MAX_TOKEN_BYTES = 1 << 20
_CLIENT = "orlop"
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)\s*")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]+))')


class Credentials(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user's name and password, or the tokens that replace them."""

    username: str = ""
    password: str = ""
    identity_token: str = ""  # OAuth2 refresh token
    registry_token: str = ""  # a bearer token, sent unchanged

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"  # no secrets in logs


class _Token(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None


def encode_basic(username: str, password: str) -> str:
    """Return base64 of `user:password`. RFC 7617."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def parse_challenges(values: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the parameters in WWW-Authenticate headers by lower-case scheme. RFC 9110, 11.6.1."""
    challenges: dict[str, dict[str, str]] = {}
    for value in values:
        scheme = _SCHEME.match(value)
        if scheme:
            challenges[scheme[1].lower()] = {
                match[1].lower(): re.sub(r"\\(.)", r"\1", match[2]) if match[2] else match[3] or ""
                for match in _PARAMETER.finditer(value, scheme.end())
            }
    return challenges


class Authorizer:
    """Answers one registry's challenges. Thread-safe."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None,
        *,
        send: Callable[[Request], Answer],
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials or Credentials()
        self._send = send
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}  # Authorization by scope

    @property
    def anonymous(self) -> bool:
        return not self._credentials

    def value(self, scope: str) -> str | None:
        """Return the Authorization for *scope* if it is known already."""
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        return self._values.get(scope)

    def answer(self, challenges: Iterable[str], *, scope: str, refused: str | None) -> bool:
        """Get an Authorization for *scope*; False if there is none better than *refused*.

        PermissionDeniedError if the token server rejects the credentials.
        """
        with self._lock:
            if self._values.get(scope) != refused:
                return True  # another thread has just got one
            value = self._exchange(parse_challenges(challenges), scope)
            if value is None or (value == refused and value.startswith("Basic ")):
                return False
            self._values[scope] = value
        return True

    def _exchange(self, challenges: dict[str, dict[str, str]], scope: str) -> str | None:
        if "bearer" in challenges:
            return f"Bearer {self._fetch_token(challenges['bearer'], scope)}"
        if "basic" in challenges and self._credentials.username:
            return f"Basic {encode_basic(self._credentials.username, self._credentials.password)}"
        return None

    def _fetch_token(self, challenge: dict[str, str], scope: str) -> str:
        realm = self._checked_realm(challenge.get("realm", ""))
        scopes = list(dict.fromkeys(scope.split() + challenge.get("scope", "").split()))
        service = challenge.get("service", "")
        request = self._token_request(realm, service, scopes)
        try:
            with self._send(request) as answer:
                if answer.status in (400, 401, 403):
                    raise self._refused()
                if answer.status != 200:
                    raise UnavailableError(
                        f"the token server of {self._endpoint.host} answered {answer.status}"
                    )
                token = msgspec.json.decode(answer.read(_MAX_TOKEN_BYTES), type=_Token)
        except (msgspec.DecodeError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"the token server of {self._endpoint.host} did not answer with a token"
            ) from error
        value = token.token or token.access_token or ""
        if not value.isascii() or not value.isprintable() or not value:
            raise UnavailableError(f"the token server of {self._endpoint.host} gave no token")
        return value

    def _token_request(self, realm: str, service: str, scopes: list[str]) -> Request:
        if self._credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._credentials.identity_token,
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes),
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = Bytes(urlencode(form).encode())
            return Request("POST", realm, headers, body, confidential=True)
        query = [("service", service)] * bool(service) + [("scope", scope) for scope in scopes]
        headers = {}
        if self._credentials.username:
            query.append(("account", self._credentials.username))
            basic = encode_basic(self._credentials.username, self._credentials.password)
            headers["Authorization"] = f"Basic {basic}"
        mark = "&" if "?" in realm else "?"
        return Request("GET", f"{realm}{mark}{urlencode(query)}", headers)

    def _checked_realm(self, realm: str) -> str:
        scheme = urlsplit(realm).scheme
        secure = urlsplit(self._endpoint.url).scheme == "https"
        if scheme not in ("http", "https") or (secure and scheme != "https"):
            raise PermissionDeniedError(
                f"{self._endpoint.host} names an unsafe token server: {realm[:200]!r}"
            )
        return realm

    def _refused(self) -> PermissionDeniedError:
        return refused(self._endpoint.host, anonymous=self.anonymous)


def refused(host: str, *, anonymous: bool, what: str = "") -> PermissionDeniedError:
    """Return the error for a registry that denies access."""
    host = DEFAULT_DOMAIN if host == HUB else host
    whose = f"{host} refuses access{f' to {what}' if what else ''}"
    if anonymous:
        return PermissionDeniedError(
            f"{whose}: it does not exist or needs a login",
            hint=f"log in with `orlop login {host}`",
        )
    return PermissionDeniedError(
        f"{whose}: wrong user name or password, or no permission",
        hint=f"log in again with `orlop login {host}`",
    )


class Bytes:
    """A request body in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self._data)
