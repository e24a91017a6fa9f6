"""The host's end of the conversation with the agent in a virtual machine."""

import json
import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orlop.errors import CorruptError, ExhaustedError, UnavailableError
from orlop.microvm import rehearsal
from orlop.model import guestwire as wire
from orlop.model.guestwire import CREDIT_BYTES, MOST_PAYLOAD, WINDOW, Decoder, Frame

_CHUNK = 1 << 16
_SEED_BYTES = 64
MOST_OUTPUT = 16 << 20


class Output(NamedTuple):
    """What a process in a guest has left."""

    status: int
    stdout: bytes
    stderr: bytes


class Link:
    """Requests over *sock*, one at a time; its timeout bounds each wait for the agent."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        self._stream = 0

    def greet(self) -> None:
        """Wait until the agent of a machine that boots says that it is there."""
        if self._next().kind != wire.HELLO:
            raise CorruptError("a virtual machine's agent does not begin with a greeting")

    def identify(self, hostname: str) -> None:
        """Give the guest a random seed, clock, machine id and boot id that no other machine has."""
        who = {
            "seed": os.urandom(_SEED_BYTES).hex(),
            "time_ns": time.time_ns(),
            "hostname": hostname,
            "machine_id": uuid.uuid4().hex,
        }
        stream = self._send(wire.IDENTIFY, json.dumps(who).encode())
        self._expect(stream)

    def warm(self) -> None:
        """Do once what a start does, so that a template has it in memory: rehearsal.py."""
        self.identify("template")
        first = self._ask(wire.START, rehearsal.request())
        self._await(first, wire.STARTED)
        self._await(self._ask(wire.EXEC, rehearsal.command()), wire.EXITED)
        self._sock.sendall(Frame(wire.STDIN, first).encode())
        self._await(first, wire.EXITED)

    def run(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        most_bytes: int = MOST_OUTPUT,
    ) -> Output:
        """Run a process in the guest to its end.

        Raises UnavailableError if it is refused, ExhaustedError if there are more than
        *most_bytes* of output; it goes on then.
        """
        what = {"args": list(args), "env": dict(env or {})}
        stream = self._send(wire.RUN, json.dumps(what).encode())
        rest, credit, ended = memoryview(stdin), WINDOW, False
        output = {wire.STDOUT: bytearray(), wire.STDERR: bytearray()}
        while True:
            while not ended and (credit or not rest):
                part = rest[: min(credit, MOST_PAYLOAD)]
                self._sock.sendall(Frame(wire.STDIN, stream, bytes(part)).encode())
                rest, credit, ended = rest[len(part) :], credit - len(part), not part
            frame = self._expect(stream)
            if frame.kind == wire.EXITED:
                return Output(_number(frame.payload), *map(bytes, output.values()))
            if frame.kind == wire.CREDIT:
                credit = min(WINDOW, credit + CREDIT_BYTES.unpack(frame.payload)[0])
            elif frame.kind in output:
                output[frame.kind] += frame.payload
                if sum(map(len, output.values())) > most_bytes:
                    raise ExhaustedError(f"a command in a machine gives over {most_bytes} bytes")
                more = CREDIT_BYTES.pack(len(frame.payload))
                self._sock.sendall(Frame(wire.CREDIT, stream, more).encode())

    def _ask(self, kind: int, what: object) -> int:
        self._stream += 1
        for frame in wire.request(kind, self._stream, json.dumps(what).encode()):
            self._sock.sendall(frame.encode())
        return self._stream

    def _await(self, stream: int, kind: int) -> None:
        while self._expect(stream).kind != kind:
            pass

    def _send(self, kind: int, payload: bytes) -> int:
        self._stream += 1
        self._sock.sendall(Frame(kind, self._stream, payload).encode())
        return self._stream

    def _expect(self, stream: int) -> Frame:
        while True:
            frame = self._next()
            if frame.stream == stream:
                if frame.kind == wire.FAILED:
                    reason = frame.payload.decode(errors="replace").partition(" ")[2]
                    raise UnavailableError(f"the virtual machine refuses: {reason}")
                return frame

    def _next(self) -> Frame:
        while not self._frames:
            try:
                data = self._sock.recv(_CHUNK)
            except TimeoutError as error:
                raise UnavailableError("the virtual machine does not answer") from error
            except ConnectionError:
                data = b""
            if not data:
                raise UnavailableError("the virtual machine has ended")
            self._frames.extend(self._decoder.feed(data))
        return self._frames.popleft()


def _number(payload: bytes) -> int:
    if not payload.isdigit() or len(payload) > 3:
        raise CorruptError("a virtual machine reports an exit status that is none")
    return int(payload)
