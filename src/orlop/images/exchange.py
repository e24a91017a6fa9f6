"""Requests to one registry that survive its moods: login, redirects, retries."""

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
    """How often to try, and how long to wait between; the waits grow, with jitter."""

    attempts: int = 5
    first_wait_s: float = 0.2
    longest_wait_s: float = 30.0  # of a Retry-After too
    sleep: Callable[[float], object] = time.sleep

    def waits(self) -> Iterator[float]:
        """Yield how long to wait before each further attempt."""
        for attempt in range(self.attempts - 1):
            wait_s = min(self.first_wait_s * 2**attempt, self.longest_wait_s)
            yield wait_s * random.uniform(0.5, 1.0)


class Exchange:
    """Speaks to one endpoint on behalf of one user."""

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
        """Return the answer to *request*, whatever its status, but 401.

        *scope* is the permission it needs, as in "repository:a/b:pull".
        UnavailableError if the registry does not answer, PermissionDeniedError
        if it does not let us in.
        """
        return self._patiently(request, lambda again: self._authorized(again, scope))

    def send_once(self, request: Request, *, scope: str) -> Answer:
        """Do as send(), but raise OSError or HTTPException when the connection breaks."""
        return self._authorized(request, scope)

    def url(self, path: str) -> str:
        """Return the URL of *path* (after /v2) here; a mirror is told whose images are meant."""
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
        if not self._is_ours(request.url):  # an upload's location, elsewhere
            return self._follow(request, known=False)
        for _ in range(3):  # no token, a token that ran out, a new one
            value = self._authorizer.value(scope)
            headers = {**self.endpoint.headers, **request.headers}
            if value:
                headers["Authorization"] = value
            answer = self._follow(request._replace(headers=headers))
            if answer.status != 401 or answer.origin != urlsplit(self.endpoint.url)[:2]:
                return answer  # where we were sent nobody may ask for our credentials
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

        Headers that are for this registry go to no other host. Our certificate goes to the
        one that is asked first, if that is *known* to be ours or the token server.
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
        """Return *request* for the *location* that was named; UnavailableError if unsafe."""
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
    """Whether *location* can be taken apart and sent."""
    try:
        return location.isascii() and location.isprintable() and urlsplit(location).port != 0
    except ValueError:
        return False


def is_passing(error: Exception) -> bool:
    """Whether it may go better the next time; not where nobody listens, hurries, or is trusted."""
    lasting = (socket.gaierror, ConnectionRefusedError, ssl.SSLError, TooSlowError)
    return isinstance(error, ssl.SSLEOFError) or not isinstance(error, lasting)


def explain(host: str, error: Exception) -> OrlopError:
    """Return what a broken connection means to the user."""
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
    """Return the seconds that a Retry-After header asks for, 0 if none. RFC 9110, 10.2.3."""
    if not value:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
