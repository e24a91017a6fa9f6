"""A container's or an exec's streams on this terminal: what run, start, attach, exec share."""

from __future__ import annotations

import posix
import time

from orlop.cli.pump import Pump
from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from orlop.client.client import Client
    from orlop.client.containers import Waiting
    from orlop.client.http import RawStream

STDIN = 0
_SIGINT, _PATIENCE = 2, 3  # after which somebody at a terminal is told what else there is
ENGINE_FAILED = OrlopError.exit_code
_RESIZE_TRIES, _RESIZE_PAUSE_S = 20, 0.005
DETACHED_NOTE = "read escape sequence\n"


def detach_keys(text: str) -> bytes:
    """Return the keys that --detach-keys names; none, which stands for Docker's, if it is empty."""
    if not text:
        return b""
    from orlop.cli.terminal import parse_detach_keys  # rare

    try:
        return parse_detach_keys(text)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None


def check_terminal(*, tty: bool, stdin: bool) -> None:
    """InvalidArgumentError if a terminal's input is wanted and ours is none."""
    if tty and stdin and not posix.isatty(STDIN):
        raise InvalidArgumentError("the input device is not a TTY", hint="leave out -t")


def converse(
    stream: RawStream,
    *,
    stdin: bool,
    tty: bool,
    keys: bytes,
    resize: Callable[[int, int], None] | None = None,
) -> tuple[bool, int | None]:
    """Connect this process's streams with *stream* until it ends.

    Return whether the user detached, and the exit code where the stream tells it.

    *resize* is told the terminal's height and width, now and when they change.
    """
    if tty and resize is not None:
        _follow_size(resize)
    try:
        if not (tty and stdin):
            pump = Pump(stream, stdin=STDIN if stdin else None, framed=not tty)
            return pump.run(), pump.status
        from orlop.cli.terminal import DEFAULT_DETACH_KEYS, DetachKeys, Raw

        detach = DetachKeys(keys or DEFAULT_DETACH_KEYS)
        pump = Pump(stream, stdin=STDIN, framed=False, detach=detach)
        with Raw(STDIN):
            return pump.run(), None
    finally:
        stream.close()


def _follow_size(resize: Callable[[int, int], None]) -> None:
    """Tell our terminal's size now and whenever it changes."""
    from orlop.cli import signals, terminal  # not for who has no terminal

    def tell() -> bool:
        size = terminal.console_size()
        try:
            if size is not None:
                resize(*size)
        except OrlopError:  # it has just ended, or not begun
            return False
        return True

    signals.on_resize(tell)
    # The answer to an exec's start comes before its process: Docker's client tries again, too.
    for _ in range(_RESIZE_TRIES):
        if tell():
            break
        time.sleep(_RESIZE_PAUSE_S)


def exit_status(client: Client, waiting: Waiting, identifier: str) -> tuple[int, str]:
    """Return a container's exit code and the engine's error, if any.

    An engine that went away while we waited has lost no status: the next one,
    which this starts if need be, is asked again.
    """
    try:
        return waiting.exit_status()
    except UnavailableError:
        try:
            return client.containers.wait(identifier).exit_status()
        except NotFoundError:  # --rm: what it did first was to remove the container
            return _status_in_events(client, identifier), ""


def _status_in_events(client: Client, identifier: str) -> int:
    filters = {"container": [identifier], "event": ["die"]}
    for event in client.system.events(since="1", until=str(int(time.time()) + 1), filters=filters):
        return int(event["Actor"]["Attributes"]["exitCode"])
    raise UnavailableError("the engine was restarted, and knows no exit code any more")


def forwarder(client: Client, identifier: str) -> Callable[[int], None]:
    """Return what sends a signal to a container, on a connection of its own, and never fails.

    A container that runs on after some interrupts ignores them: it says how to end one.
    """
    interrupts = 0

    def deliver(number: int) -> None:
        from orlop.client.client import Client

        nonlocal interrupts
        try:
            with Client(client.settings) as another:  # ours may be in the middle of a request
                another.containers.kill(identifier, signal=str(number))
        except OrlopError:  # it has ended meanwhile
            return
        interrupts += number == _SIGINT
        if number == _SIGINT and interrupts == _PATIENCE:
            hint = f"end it with `orlop kill {identifier[:12]}`"
            text = f"orlop: the container runs on after {interrupts} interrupts ({hint})\n"
            try:
                posix.write(2, text.encode())  # a signal's handler is no place for buffers
            except OSError:  # nobody reads it
                return

    return deliver


def say(err: TextIO, error: OrlopError | str) -> None:
    """Print *error* as every command does."""
    from orlop.cli import screen  # rare

    screen.say(err, f"orlop: {error}")
