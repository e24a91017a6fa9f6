"""Real HTTP servers on the loopback: registries with and without login, and misbehaving ones."""

import base64
import contextlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "someone", "secret word"

Handler = Callable[["Exchange"], None]


class Exchange(http.server.BaseHTTPRequestHandler):
    """One request, given to the server's handler, and remembered."""

    protocol_version = "HTTP/1.1"
    handle_request: Handler
    seen: "list[Exchange]"

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.seen.append(self)
        type(self).handle_request(self)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 (http.server looks for them)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def shows_certificate(self) -> bool:
        """Whether the client has shown a certificate of its own."""
        assert isinstance(self.connection, ssl.SSLSocket)
        return bool(self.connection.getpeercert())

    def cut(self) -> None:
        """Close the connection with no further word."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name)
        """Be quiet."""


class Server:
    """A running HTTP server: where it is, and what it was asked."""

    def __init__(self, port: int, seen: list[Exchange]) -> None:
        self.host = f"127.0.0.1:{port}"
        self.url = f"http://{self.host}"
        self.seen = seen


@contextlib.contextmanager
def serving(
    handler: Handler, *, tls: tuple[Path, Path] | None = None, ask_certificate: bool = False
) -> Iterator[Server]:
    """Serve with *handler* on a free port; *tls* is a certificate and its key.

    With *ask_certificate* clients may show one that is the same as ours.
    """
    seen: list[Exchange] = []
    cls = type("Bound", (Exchange,), {"handle_request": staticmethod(handler), "seen": seen})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), cls) as server:
        server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            if ask_certificate:
                context.verify_mode = ssl.CERT_OPTIONAL
                context.load_verify_locations(tls[0])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Server(server.server_address[1], seen)
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def registry(folder: Path, auth: str = "") -> Iterator[str]:
    """Run Debian's docker-registry on a free port; *auth* is its configuration's auth part."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "config.yml")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
    )
    try:
        _await_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("docker-registry did not start")


def htpasswd(folder: Path) -> str:
    """Return the auth part for a registry that USER may use with PASSWORD."""
    path = folder / "htpasswd"
    subprocess.run(["htpasswd", "-Bbc", str(path), USER, PASSWORD], check=True, capture_output=True)
    return f"auth: {{htpasswd: {{realm: test, path: {path}}}}}\n"


class TokenServer:
    """A token server by distribution's specification; signs with a key that openssl made."""

    SERVICE, ISSUER, REFRESH = "test-service", "test-issuer", "refresh-me"

    def __init__(self, folder: Path) -> None:
        self.key, self.certificate = folder / "key.pem", folder / "cert.pem"
        command = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
        ]
        subprocess.run(
            ["openssl", *command, "-keyout", self.key, "-out", self.certificate],
            check=True,
            capture_output=True,
        )

    def auth(self, url: str) -> str:
        """Return the auth part for a registry that trusts this server at *url*."""
        return (
            f"auth: {{token: {{realm: '{url}/token', service: {self.SERVICE},"
            f" issuer: {self.ISSUER}, rootcertbundle: {self.certificate}}}}}\n"
        )

    def handle(self, exchange: Exchange) -> None:
        """Give pull to everybody, push to USER, and nothing to a wrong password."""
        if exchange.command == "POST":
            form = parse_qs(exchange.body.decode())
            if form.get("refresh_token") != [self.REFRESH]:
                return exchange.reply(401, b"{}")
            return self._grant(exchange, form, known=True, field="access_token")
        given = exchange.headers.get("Authorization")
        right = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if given and given != f"Basic {right}":
            return exchange.reply(401, b"{}")
        query = parse_qs(urlsplit(exchange.path).query)
        return self._grant(exchange, query, known=bool(given), field="token")

    def _grant(
        self, exchange: Exchange, asked: dict[str, list[str]], *, known: bool, field: str
    ) -> None:
        access = []
        for scope in " ".join(asked.get("scope", [])).split():
            kind, name, actions = scope.split(":", 1)[0], scope.split(":")[1], scope.split(":")[-1]
            granted = [one for one in actions.split(",") if known or one == "pull"]
            access.append({"type": kind, "name": name, "actions": granted})
        token = self._sign({"access": access})
        exchange.reply(200, json.dumps({field: token}).encode(), Content_Type="application/json")

    def _sign(self, claims: dict[str, object]) -> str:
        der = base64.b64encode(
            subprocess.run(
                ["openssl", "x509", "-in", self.certificate, "-outform", "DER"],
                check=True,
                capture_output=True,
            ).stdout
        ).decode()
        now = int(time.time())
        claims |= {"iss": self.ISSUER, "aud": self.SERVICE, "sub": "x", "jti": os.urandom(8).hex()}
        claims |= {"iat": now - 10, "nbf": now - 10, "exp": now + 60}
        parts = [{"alg": "RS256", "typ": "JWT", "x5c": [der]}, claims]
        signed = b".".join(_base64url(json.dumps(part).encode()) for part in parts)
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key],
            input=signed,
            check=True,
            capture_output=True,
        ).stdout
        return (signed + b"." + _base64url(signature)).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
