"""Requests to one registry, with login, redirects and retries."""

import email.utils
import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from orlop.errors import OrlopError, UnavailableError
from orlop.images.auth import Authorizer, Credentials, refused
from orlop.images.hosts import Endpoint
from orlop.images.pace import TooSlowError
from orlop.images.transport import Answer, Request, Transport

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
BROKEN = (OSError, http.client.HTTPException)


class Patience(NamedTuple):
    """How often to try, and how long to wait in between; the waits grow, with jitter."""

    attempts: int = 5
    first_wait_s: float = 0.2
    longest_wait_s: float = 30.0  # also for a Retry-After
    sleep: Callable[[float], object] = time.sleep

    def waits(self) -> Iterator[float]:
        """Yield the wait before each further attempt."""
        for attempt in range(self.attempts - 1):
            wait_s = min(self.first_wait_s * 2**attempt, self.longest_wait_s)
            yield wait_s * random.uniform(0.5, 1.0)


class Exchange:
    """Sends requests to one endpoint for one user."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None,
        transport: Transport,
        patience: Patience,
    ) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self._transport = transport
        self._authorizer = Authorizer(
            endpoint,
            credentials if endpoint.primary else None,
            send=lambda request: self._patiently(request, self._follow),  # with our certificate
        )

    def send(self, request: Request, *, scope: str) -> Answer:
        """Return the answer to *request*, with any status except 401.

        *scope* is the permission it needs, such as "repository:a/b:pull".
        UnavailableError if the registry does not answer, PermissionDeniedError
        if it denies access.
        """
        return self._patiently(request, lambda again: self._authorized(again, scope))

    def send_once(self, request: Request, *, scope: str) -> Answer:
        """Do as send(), but raise OSError or HTTPException when the connection breaks."""
        return self._authorized(request, scope)

    def url(self, path: str) -> str:
        """Return the URL of *path* (after /v2); a mirror also gets the images' own registry."""
        mark = "&" if "?" in path else "?"
        namespace = f"{mark}ns={self.endpoint.namespace}" if self.endpoint.namespace else ""
        return f"{self.endpoint.url}{path}{namespace}"

    def _patiently(self, request: Request, send: Callable[[Request], Answer]) -> Answer:
        for wait_s in self.patience.waits():
            try:
                answer = send(request)
            except BROKEN as error:
                if not is_passing(error):
                    raise explain(self.endpoint.host, error) from error
                self.patience.sleep(wait_s)
                continue
            if answer.status not in TRY_AGAIN:
                return answer
            asked_s = _retry_after_s(answer.headers.get("Retry-After"))
            answer.drain()
            self.patience.sleep(min(max(asked_s, wait_s), self.patience.longest_wait_s))
        try:
            return send(request)
        except BROKEN as error:
            raise explain(self.endpoint.host, error) from error

    def _authorized(self, request: Request, scope: str) -> Answer:
        if not self._is_ours(request.url):  # the location of an upload on another host
            return self._follow(request, known=False)
        for _ in range(3):  # without a token, with an expired one, with a new one
            value = self._authorizer.value(scope)
            headers = {**self.endpoint.headers, **request.headers}
            if value:
                headers["Authorization"] = value
            answer = self._follow(request._replace(headers=headers))
            if answer.status != 401 or answer.origin != urlsplit(self.endpoint.url)[:2]:
                return answer  # another host must not ask for our credentials
            challenges = answer.headers.get_all("WWW-Authenticate") or []
            answer.drain()
            if not self._authorizer.answer(challenges, scope=scope, refused=value):
                break
        what = scope.split(":")[1] if ":" in scope else ""
        raise refused(self.endpoint.host, anonymous=self._authorizer.anonymous, what=what)

    def _is_ours(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.endpoint.url)[:2]

    def _follow(self, request: Request, *, known: bool = True) -> Answer:
        """Send, and follow redirects.

        Headers for this registry go to no other host. Our certificate is only for the first
        host, if it is *known* to be this registry or its token server.
        """
        first = urlsplit(request.url)[:2]
        for _ in range(_MAX_REDIRECTS):
            tls = self.endpoint.tls
            if not known or urlsplit(request.url)[:2] != first:
                tls = tls._replace(client=())
            answer = self._transport.send(request, tls)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.drain()
            request = self.moved(request, location)
        raise UnavailableError(f"{self.endpoint.host} redirects in circles")

    def moved(self, request: Request, location: str) -> Request:
        """Return *request* for the new *location*; UnavailableError if it is unsafe."""
        url = urljoin(request.url, location) if is_plain(location) else ""
        here, there = urlsplit(request.url), urlsplit(url)
        downgrade = here.scheme == "https" and there.scheme == "http"
        if there.scheme not in ("http", "https") or not there.hostname or downgrade:
            raise UnavailableError(
                f"{self.endpoint.host} redirects to {location[:100]!r}, an unsafe place"
            )
        if (here.scheme, here.netloc) == (there.scheme, there.netloc):
            return request._replace(url=url)
        if request.confidential:
            raise UnavailableError(
                f"the token server of {self.endpoint.host} redirects elsewhere: {location[:100]!r}"
            )
        private = {"authorization", *(name.lower() for name in self.endpoint.headers)}
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in private
        }
        return request._replace(url=url, headers=headers)


def is_plain(location: str) -> bool:
    """Whether *location* can be parsed and sent."""
    try:
        return location.isascii() and location.isprintable() and urlsplit(location).port != 0
    except ValueError:
        return False


def is_passing(error: Exception) -> bool:
    """Whether a retry may help; not if nobody listens, or TLS fails."""
    lasting = (socket.gaierror, ConnectionRefusedError, ssl.SSLError, TooSlowError)
    return isinstance(error, ssl.SSLEOFError) or not isinstance(error, lasting)


def explain(host: str, error: Exception) -> OrlopError:
    """Return the user's error for a broken connection."""
    if isinstance(error, socket.gaierror):
        return UnavailableError(f"no such host: {host}", hint="check the name and the network")
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnavailableError(
            f"the certificate of {host} is not trusted: {error.verify_message}",
            hint=f"put its authority into /etc/orlop/certs.d/{host}/",
        )
    if isinstance(error, ssl.SSLError):
        return UnavailableError(
            f"{host} does not speak TLS: {error.reason or error}",
            hint=f'for plain HTTP: server = "http://{host}" in certs.d/{host}/hosts.toml',
        )
    if isinstance(error, TooSlowError):
        return UnavailableError(f"registry {host} sends too slowly: {error}")
    if isinstance(error, TimeoutError):
        return UnavailableError(f"registry {host} did not answer in time")
    text = str(getattr(error, "strerror", None) or error or type(error).__name__)
    return UnavailableError(f"cannot reach registry {host}: {text.lower()}")


def _retry_after_s(value: str | None) -> float:
    """Return the seconds in a Retry-After header, 0 if there is none. RFC 9110, 10.2.3."""
    if not value:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
