"""What a log driver is, and what it is told."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from orlop.logdrivers.wire import About


class Part(NamedTuple):
    """Which part of a longer line a message is."""

    id: str
    ordinal: int  # from 1
    last: bool


class Message(NamedTuple):
    """A line of output, without its newline."""

    stream: str
    time_ns: int
    line: bytes
    part: Part | None = None


class Driver(Protocol):
    """A connection to a log service. All of it may block."""

    #: Option names beside tag, labels, env and what every driver has.
    OPTIONS: frozenset[str]

    def __init__(self, options: Mapping[str, str], about: About) -> None:
        """Raises InvalidArgumentError for options that are wrong."""

    def open(self) -> None:
        """Connect, where there is anything to connect to. OSError where nobody answers."""

    def send(self, message: Message) -> None:
        """Send one message. OSError where it is lost."""

    def close(self) -> None:
        """Close the connection; it can be opened again."""
