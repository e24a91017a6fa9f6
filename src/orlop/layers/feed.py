"""Pass a layer's bytes from their producer to the unpacker.

The producer (download, digest of the blob, decompression) runs in one thread, the DiffID is
computed in another, and the consumer is the caller's. Almost all of it runs without the
interpreter's lock, so that it uses several cores.
"""

import hashlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from orlop.errors import CorruptError, OrlopError
from orlop.layers.decompress import Layer
from orlop.layers.tar import Stream
from orlop.model.digest import DiffID, Digest, split_digest

T = TypeVar("T")
_DEPTH = 16  # chunks of at most about a MiB

#: Gives the blob's bytes, in order, to the function that it is called with, and
#: raises if they are not what they should be.
Producer = Callable[[Callable[[memoryview], None]], object]


class _StoppedError(Exception):
    """Raised in the producer when nobody needs more bytes."""


def through(produce: Producer, consume: Callable[[Stream], T], *, diff_id: DiffID | None) -> T:
    """Let *consume* read the tar of the blob from *produce*, and return its result.

    The stream's end is reached only once the producer has returned and the tar
    has that *diff_id*, if one is given; else reading raises the producer's error, or CorruptError.
    Where both are unhappy about the bytes the producer is believed: it saw the blob.
    """
    feed = _Feed(diff_id)
    thread = threading.Thread(target=feed.run, args=(produce,), name="layer-feed")
    thread.start()
    try:
        result = consume(feed)
    except BaseException as error:
        feed.discard(thread, stop=not isinstance(error, CorruptError))
        if isinstance(feed.failure, OrlopError) and feed.failure is not error:
            raise feed.failure from error
        raise
    if not feed.ended:  # otherwise it only has to end, and discard() would poll
        feed.discard(thread, stop=True)
    thread.join()
    return result


class _Feed:
    def __init__(self, diff_id: DiffID | None) -> None:
        algorithm, self._expected = split_digest(Digest(diff_id)) if diff_id else ("sha256", "")
        self._digest = _Digest(algorithm)
        self._queue: queue.Queue[bytes | Exception | None] = queue.Queue(_DEPTH)
        self._layer = Layer()
        self._left = b""
        self.ended = False
        self._broken = False
        self._unwanted = False
        self._stop = False
        self.failure: Exception | None = None  # of the producer

    def run(self, produce: Producer) -> None:
        with self._digest:
            try:
                produce(self._take)
            except _StoppedError:
                return
            except Exception as error:
                self.failure = error
                self._put(error)
                return
            if not self._broken:
                self._finish()

    def read(self, size: int = -1, /) -> bytes:
        if not self._left:
            if self.ended:
                return b""
            item = self._queue.get()
            if item is None:
                self.ended = True
                return b""
            if isinstance(item, Exception):
                raise item
            self._left = item
        if 0 <= size < len(self._left):
            data, self._left = self._left[:size], self._left[size:]
        else:
            data, self._left = self._left, b""
        return data

    def discard(self, thread: threading.Thread, *, stop: bool) -> None:
        """Wait until the producer has ended, at once (*stop*) or with all its data."""
        self._unwanted = True
        self._stop = stop
        while thread.is_alive():
            try:
                self._queue.get(timeout=0.02)
            except queue.Empty:
                continue
        thread.join()

    def _take(self, data: memoryview) -> None:
        if self._stop:
            raise _StoppedError
        if self._broken:
            return  # the producer may still find the reason
        try:
            for piece in self._layer.feed(data):
                self._pass(piece)
        except OrlopError as error:
            self._broken = True
            self._put(error)

    def _finish(self) -> None:
        try:
            for piece in self._layer.rest():
                self._pass(piece)
            actual = self._digest.finish()
            if self._expected not in (actual, ""):
                raise CorruptError(
                    f"layer is not what the image's configuration says: its tar is {actual}"
                )
        except OrlopError as error:
            self._put(error)
        else:
            self._put(None)

    def _pass(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._put(piece)

    def _put(self, item: bytes | Exception | None) -> None:
        if not self._unwanted:
            self._queue.put(item)


class _Digest:
    """A digest computed in its own thread, which lives as long as the context."""

    def __init__(self, algorithm: str) -> None:
        self._hash = hashlib.new(algorithm)
        self._queue: queue.Queue[bytes | None] = queue.Queue(_DEPTH)
        self._thread = threading.Thread(target=self._run, name="layer-digest")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)  # superfluous after finish()
        self._thread.join()

    def update(self, data: bytes) -> None:
        self._queue.put(data)

    def finish(self) -> str:
        """Return the digest of all data, in hexadecimal."""
        self._queue.put(None)
        self._thread.join()
        return self._hash.hexdigest()

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._hash.update(data)
