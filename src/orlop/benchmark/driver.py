"""What a part asks of Orlop and of each peer.

A driver is one way to start sandboxes of the test's image. Verbs are called from
many threads; each call is bounded in time. What a driver does not have raises
UnsupportedError, and the part leaves it out.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from orlop.benchmark.image import Image
from orlop.errors import UnsupportedError

MEMORY_BYTES = 64 << 20
PIDS = 64
#: What a sandbox runs that is to stay.
IDLE = ("sleep", "86400")
#: The longest that a start, or any other verb of a peer's, may take.
PATIENCE_S = 120.0


class TimedStart(NamedTuple):
    """One sandbox: from the request to the program's first instruction, and until it is removed."""

    first_ms: float
    total_ms: float


class ForkedCopies(NamedTuple):
    """Copies of a sandbox that have started, and when on time.perf_counter() the call returned."""

    answered_s: float
    ids: Sequence[str]


class ReadySandboxes(NamedTuple):
    """Sandboxes that were started before anybody asks for them."""

    fill: Callable[[], object]  # wait until all are there
    take: Callable[[], str]  # return what one of them is called, which is the taker's


class BenchDriver:
    """The verbs, none of which this class has."""

    name = ""
    is_orlop = False
    is_floor = False
    #: What stands in the command lines of its own processes; none, where it has none that stay.
    marks: Sequence[str] = ()
    #: What is different about its sandboxes, for the report.
    note = ""

    def once(self) -> TimedStart:
        """Start a sandbox that writes when it began, wait for its end and its removal."""
        raise UnsupportedError(f"{self.name} has no start that is timed")

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        """Start a sandbox that stays; return what it is called."""
        raise UnsupportedError(f"{self.name} has no sandboxes that stay")

    def execute(self, identifier: str) -> None:
        """Run `true` in a sandbox to its end."""
        raise UnsupportedError(f"{self.name} has no exec")

    def write(self, identifier: str, name: str, data: bytes) -> None:
        """Make the file *name* in the top folder of a sandbox; asked of those that fork."""
        raise UnsupportedError(f"{self.name} has no files that are written from outside")

    def fork(self, identifier: str, count: int) -> ForkedCopies:
        """Start *count* sandboxes with copies of a sandbox's files, and wait for all of them."""
        raise UnsupportedError(f"{self.name} has no forks")

    def pool(self, size: int) -> AbstractContextManager[ReadySandboxes]:
        """Keep *size* sandboxes ready."""
        raise UnsupportedError(f"{self.name} has no pools")

    def pull(self, reference: str) -> None:
        """Have an image of a registry, ready to be run."""
        raise UnsupportedError(f"{self.name} has no images")

    def forget_image(self, reference: str) -> None:
        """Remove an image, if it is there."""
        raise UnsupportedError(f"{self.name} has no images")

    def remove(self, identifiers: Sequence[str]) -> None:
        """Take sandboxes away, with what runs in them."""
        raise UnsupportedError(f"{self.name} has no sandboxes that stay")

    def close(self) -> None:
        """Let go of what is kept between two starts."""


def timed(image: Image, action: Callable[[], bytes]) -> TimedStart:
    """Time *action*, which runs the image's probe and returns what that has written."""
    begun, begin = image.now_ns(), time.perf_counter_ns()
    written = action()
    total_ms = (time.perf_counter_ns() - begin) / 1e6
    return TimedStart((int(written) - begun) / 1e6, total_ms)


def milliseconds(action: Callable[[], object]) -> float:
    """Return how long *action* takes."""
    begin = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - begin) / 1e6
