"""Frames between the host and the agent in a virtual machine, over one byte stream.

    u32 length of the payload | u32 stream | u8 kind | 3 bytes of zero | payload

Numbers are little-endian. Stream 0 belongs to the machine; every other stream is one process.
Both sides treat the other's bytes as hostile: a frame that is too long, of an unknown kind or
with a broken header ends the conversation.
"""

import struct

from orlop.errors import CorruptError, OrlopError
from orlop.model.light import Iterator, NamedTuple

MOST_PAYLOAD = 64 * 1024
_MOST_REASON = 1000
#: How many bytes of one stream may be on their way before the reader has to grant more.
WINDOW = 256 * 1024

_HEADER = struct.Struct("<IIB3s")
CREDIT_BYTES = struct.Struct("<I")

HELLO = 1  # guest: the agent waits for requests
IDENTIFY = 2  # host: JSON, who this machine is from now on
DONE = 3  # guest: the request on this stream was carried out
FAILED = 4  # guest: the request was refused; an exit status in decimal, a blank, a sentence
RUN = 5  # host: JSON, a process to start on this stream
STDIN = 6  # host: input; an empty payload closes it
STDOUT = 7  # guest: output; an empty payload is its end
STDERR = 8  # guest: the same for errors
EXITED = 9  # guest: the exit status as decimal text
SIGNAL = 10  # host: the signal's number as decimal text
CREDIT = 11  # both: CREDIT_BYTES more may be sent on this stream
PART = 12  # host: the beginning of a request on this stream that is longer than a frame
START = 13  # host: JSON, a container to start; its first process is this stream
EXEC = 14  # host: JSON, another process in the container, on this stream
STARTED = 15  # guest: the program of this stream's process runs
RESIZE = 16  # host: the terminal's height and width as decimal text
QUESTION = 17  # guest: a message of DNS; its stream numbers questions, not processes
ANSWER = 18  # host: the answer to the question of that number
_KINDS = range(HELLO, ANSWER + 1)
MOST_STREAM = (1 << 32) - 1
#: Where name servers of containers' networks are, in the guest and in its jail.
NAME_SERVER = ("127.0.0.11", 53)

#: Where files that come with a START lie in the guest, by their numbers.
FILES = "/files"
#: How long a request may be, with all its parts.
MOST_REQUEST = 4 << 20


class Frame(NamedTuple):
    """One message."""

    kind: int
    stream: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes to send. Raises ValueError if the payload exceeds MOST_PAYLOAD."""
        if len(self.payload) > MOST_PAYLOAD:
            raise ValueError(f"a frame of {len(self.payload)} bytes")
        return _HEADER.pack(len(self.payload), self.stream, self.kind, bytes(3)) + self.payload


def request(kind: int, stream: int, payload: bytes) -> Iterator[Frame]:
    """Yield the frames of a request of any length up to MOST_REQUEST."""
    while len(payload) > MOST_PAYLOAD:
        yield Frame(PART, stream, payload[:MOST_PAYLOAD])
        payload = payload[MOST_PAYLOAD:]
    yield Frame(kind, stream, payload)


def failure(stream: int, error: Exception) -> Frame:
    """Return what tells the host that the request on *stream* was refused."""
    code = error.exit_code if isinstance(error, OrlopError) else OrlopError.exit_code
    return Frame(FAILED, stream, f"{code} {error}".encode(errors="replace")[:_MOST_REASON])


class Decoder:
    """Cuts a stream of bytes into frames; holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that *data* completes. Raises CorruptError at the first bad header."""
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            length, stream, kind, padding = _HEADER.unpack_from(self._pending)
            if length > MOST_PAYLOAD or kind not in _KINDS or padding != bytes(3):
                raise CorruptError(
                    "the virtual machine's channel carries something else than frames"
                )
            end = _HEADER.size + length
            if len(self._pending) < end:
                return
            payload = bytes(self._pending[_HEADER.size : end])
            del self._pending[:end]
            yield Frame(kind, stream, payload)
