"""QEMU's control protocol, one command at a time. docs/interop/qmp-spec.rst of QEMU."""

import json
import socket
from typing import Any

from orlop.errors import UnavailableError

_MOST_BYTES = 1 << 20


class Qmp:
    """A conversation over *sock*, whose timeout bounds every wait."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pending = b""
        self._next()  # the greeting
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """Return the answer. Raises UnavailableError with QEMU's words if it refuses."""
        self._sock.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        while True:
            message = self._next()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise UnavailableError(f"QEMU refuses {name}: {message['error'].get('desc')}")

    def migrated(self) -> None:
        """Wait until a migration has ended. Raises UnavailableError if it failed."""
        while True:
            message = self._next()
            if message.get("event") == "MIGRATION":
                status = message["data"]["status"]
                if status == "completed":
                    return
                if status == "failed":
                    raise UnavailableError("QEMU could not save or load the state of a machine")

    def _next(self) -> dict[str, Any]:
        while b"\n" not in self._pending:
            try:
                data = self._sock.recv(65536)
            except TimeoutError as error:
                raise UnavailableError("QEMU does not answer") from error
            except ConnectionError:
                data = b""
            if not data or len(self._pending) > _MOST_BYTES:
                raise UnavailableError("QEMU has ended")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
