"""The driver fluentd: the forward protocol, a message for each line.

github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1, "Message Modes"
"""

import base64
import os
import socket
import time
from collections.abc import Mapping

from orlop.logdrivers import options as values
from orlop.logdrivers.address import close, parse_address
from orlop.logdrivers.driver import Message
from orlop.logdrivers.msgpack import EventTime, encode
from orlop.logdrivers.wire import About

_PORT = 24224
_ACK_S = 30.0
_LONGEST_ACK = 4 << 10
_LONGEST_PAUSE_S = 60.0
_SLOWER = 1.5
_FOREVER = (1 << 31) - 1


class Fluentd:
    OPTIONS = frozenset(
        (
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-reconnect-interval",
            "fluentd-buffer-limit",
            "fluentd-max-retries",
            "fluentd-request-ack",
            "fluentd-retry-wait",
            "fluentd-sub-second-precision",
            "fluentd-write-timeout",
        )
    )

    def __init__(self, options: Mapping[str, str], about: About) -> None:
        self._address = parse_address(
            options.get("fluentd-address", "") or f"tcp://127.0.0.1:{_PORT}",
            option="fluentd-address",
            schemes=("", "tcp", "tls", "unix"),
            port=_PORT,
        )
        self._acknowledged = values.truth(options, "fluentd-request-ack")
        self._precise = values.truth(options, "fluentd-sub-second-precision")
        self._tries = values.number(options, "fluentd-max-retries", default=_FOREVER, most=_FOREVER)
        self._pause_s = values.seconds(options, "fluentd-retry-wait", default=1.0)
        self._write_s = values.seconds(options, "fluentd-write-timeout", default=0.0) or None
        values.truth(options, "fluentd-async")
        values.size(options, "fluentd-buffer-limit", default=1)
        values.seconds(options, "fluentd-async-reconnect-interval", default=0.0)
        self._tag = about["tag"]
        self._fields = {
            "container_id": about["id"],
            "container_name": f"/{about['name']}",
            **about["attributes"],
        }
        self._socket: socket.socket | None = None

    def open(self) -> None:
        self._socket = self._address.connect()
        self._socket.settimeout(self._write_s)

    def send(self, message: Message) -> None:
        """Send it, again and again as options say; OSError once that was often enough."""
        chunk = base64.b64encode(os.urandom(16)).decode() if self._acknowledged else ""
        data = self._encoded(message, chunk)
        pause_s = self._pause_s
        for left in reversed(range(self._tries)):
            try:
                self._try(data, chunk)
            except OSError:
                self.close()
                if not left:
                    raise
            else:
                return
            time.sleep(min(pause_s, _LONGEST_PAUSE_S))
            pause_s *= _SLOWER

    def close(self) -> None:
        if self._socket is not None:
            close(self._socket)
            self._socket = None

    def _try(self, data: bytes, chunk: str) -> None:
        if self._socket is None:
            self.open()
        if self._socket is not None:
            self._socket.sendall(data)
            if chunk:
                _await(self._socket, chunk)

    def _encoded(self, message: Message, chunk: str) -> bytes:
        record = {
            **self._fields,
            "source": message.stream,
            "log": message.line.decode("utf-8", "replace"),
        }
        if message.part is not None:
            record |= {
                "partial_message": "true",
                "partial_id": message.part.id,
                "partial_ordinal": str(message.part.ordinal),
                "partial_last": "true" if message.part.last else "false",
            }
        seconds = message.time_ns // 1_000_000_000
        moment = EventTime(message.time_ns) if self._precise else seconds
        return encode((self._tag, moment, record, {"chunk": chunk} if chunk else {}))


def _await(sock: socket.socket, chunk: str) -> None:
    """Return once the peer has acknowledged *chunk*; OSError if it says something else."""
    before = sock.gettimeout()
    sock.settimeout(_ACK_S)
    answer, wanted = b"", encode("ack") + encode(chunk)
    while wanted not in answer:
        data = sock.recv(_LONGEST_ACK)
        answer += data
        if not data or (len(answer) > len(wanted) and wanted not in answer):
            raise ConnectionError("the peer did not acknowledge a message")
    sock.settimeout(before)
