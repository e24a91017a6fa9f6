"""A few verbs of the Docker Engine API, with the standard library only."""

import contextlib
import http.client
import json
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

_TIMEOUT_S = 15.0


class Docker:
    """One connection for each request; an engine that dies meanwhile raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def call(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """Return status and JSON (or text) of the answer."""
        status, data = self.raw(method, target, None if body is None else json.dumps(body).encode())
        try:
            return status, json.loads(data) if data else None
        except ValueError:
            return status, data.decode(errors="replace")

    def raw(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("engine")
        connection.sock = self._connect()
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            with contextlib.suppress(BrokenPipeError):  # it has heard enough, and says so
                connection.request(method, f"/v1.45{target}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except TimeoutError:
            raise AssertionError(f"no answer, and no end of one: {method} {target}") from None
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def ok(self, method: str, target: str, body: Any = None) -> Any:
        """Return the JSON of an answer that must be good."""
        status, answer = self.call(method, target, body)
        assert status < 400, (method, target, status, answer)
        return answer

    def attached(self, ref: str, stream: str = "stdout=1") -> Generator[bytes, None, None]:
        """Yield the bytes that an attached client gets, the frames' headers among them."""
        with self._connect() as client:
            head = f"POST /v1.45/containers/{ref}/attach?stream=1&{stream} HTTP/1.1\r\nHost: x\r\n"
            client.sendall(f"{head}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
            data = b""
            while b"\r\n\r\n" not in data:
                data += self._some(client)
            assert data.startswith(b"HTTP/1.1 101"), data
            yield data.partition(b"\r\n\r\n")[2]
            while data := client.recv(65536):
                yield data

    @staticmethod
    def _some(client: socket.socket) -> bytes:
        data = client.recv(65536)
        assert data, "the engine hung up"
        return data

    def _connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(_TIMEOUT_S)
        try:
            client.connect(str(self._path))
        except OSError:
            client.close()
            raise
        return client
