"""A command that runs in a sandbox: with streams of its own, or at a terminal."""

import time
from collections.abc import Iterator

from orlop.sandbox.arguments import check_output_limit
from orlop.sandbox.interrupt import current
from orlop.sandbox.processes.conversation import Conversation
from orlop.sandbox.result import Result, StreamName
from orlop.sandbox.way import Size

OUTPUT_LIMIT = 16 << 20


class Process(Conversation):
    """Iterating gives ("stdout" or "stderr", bytes) as they come, until all output has ended."""

    def __iter__(self) -> Iterator[tuple[StreamName, bytes]]:
        return self._pieces()

    def result(self, *, output_limit: int = OUTPUT_LIMIT) -> Result:
        """Wait for its end; keep the first *output_limit* bytes of each stream."""
        check_output_limit(output_limit)
        kept = {"stdout": bytearray(), "stderr": bytearray()}
        cut = {"stdout": False, "stderr": False}
        with current().ending(self.kill):
            for stream, piece in self:
                room = max(0, output_limit - len(kept[stream]))
                kept[stream] += piece[:room]
                cut[stream] = cut[stream] or len(piece) > room
        end = self._end()
        return Result(
            exit_code=end.exit_code,
            stdout=bytes(kept["stdout"]),
            stderr=bytes(kept["stderr"]),
            stdout_truncated=cut["stdout"],
            stderr_truncated=cut["stderr"],
            timed_out=self.timed_out,
            duration_s=time.monotonic() - self._begun_s,
            usage=end.usage,
            oom_killed=end.oom_killed,
            timeline=self._timeline(),
        )


class Terminal(Conversation):
    """Iterating gives what it shows as it comes, bytes, until the command has ended.

    What send() types comes back in it, unless the command turns its terminal's echo off.
    """

    def __iter__(self) -> Iterator[bytes]:
        for _, piece in self._pieces():
            yield piece

    def resize(self, *, rows: int, columns: int) -> None:
        """Make it another size; the command gets SIGWINCH."""
        self._handle.resize(Size(rows, columns))
