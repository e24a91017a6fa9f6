"""orlop logs."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Command, flag, operand, text
from orlop.cli.pump import write
from orlop.cli.values import moment
from orlop.client.stream import FRAMED, STDERR, Demultiplexer
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from orlop.client.client import Client


class LogsCommand(Command):
    description = "Shows what a container has written to its output and errors."
    examples = (
        ("orlop logs -f --tail 20 web", "the last 20 lines, then what comes"),
        ("orlop logs --since 10m -t web", "the last ten minutes, with times"),
    )

    follow = flag("-f", "--follow", help="keep printing new output")
    since = text("--since", metavar="TIME", help="start time: 2026-01-31T12:00:00 or 10m")
    until = text("--until", metavar="TIME", help="end time")
    tail = text("-n", "--tail", metavar="N", default="all", help="only the last N lines")
    timestamps = flag("-t", "--timestamps", help="put the time before each line")
    details = flag("--details", help="show attributes added by --log-opt")
    container = operand("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Show the log until its end, or for as long as it is followed."""
        try:
            since, until = moment(self.since), moment(self.until)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
        tail = "all" if self.tail == "-1" else self.tail
        if tail != "all" and not tail.isdecimal():
            raise InvalidArgumentError(f"invalid value {self.tail!r} for --tail: expected a number")
        query: dict[str, str | bool | None] = {
            "stdout": True,
            "stderr": True,
            "follow": self.follow,
            "since": since,
            "until": until,
            "timestamps": self.timestamps,
            "details": self.details,
            "tail": tail,
        }
        response = client.containers.logs(self.container, query=query)
        try:
            framed = response.headers.get("content-type", "").startswith(FRAMED)
            copy(response, (out.fileno(), err.fileno()), framed=framed)
        finally:
            response.close()
        return 0


def copy(pieces: Iterable[bytes], outputs: tuple[int, int], *, framed: bool) -> None:
    """Write a log as it arrives to the descriptors for output and errors."""
    frames = Demultiplexer()
    for piece in pieces:
        if not framed:
            write(outputs[0], piece)
            continue
        for stream, part in frames.feed(piece):
            write(outputs[stream == STDERR], part)
