"""A container's output and input: attach, logs, resize."""

import asyncio
import base64
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice

from orlop.engine.answers import LogEntry
from orlop.engine.context import Context
from orlop.engine.requests import AttachRequest, LogRequest
from orlop.engine.threads import in_thread
from orlop.errors import NotFoundError, NotRunningError, UnsupportedError, WrongStateError
from orlop.model.container import Container, Status
from orlop.shim.logread import Entry, LogReader

_BATCH = 500  # entries read at a time, so that a long log is not in memory at once
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25
_NUMBERS = {"stdout": 1, "stderr": 2}


class Streams:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def attach(
        self, container: Container, client: socket.socket, request: AttachRequest
    ) -> None:
        """Give *client* away; see Containers.attach."""
        if container.status == Status.PAUSED:
            raise WrongStateError(
                f"Container {container.id[:12]} is paused, unpause the container before attach"
            )
        if request.logs:
            await self._replay(container, client, request)
        if not request.stream or container.status in (Status.REMOVING, Status.DEAD):
            client.close()
            return
        message = {
            "op": "attach",
            "key": container.id,
            "stdin": request.stdin and container.options.open_stdin,
            "stdout": request.stdout,
            "stderr": request.stderr,
            "multiplex": request.framed,
            "detach_keys": request.detach_keys,
            "pending": base64.b64encode(request.pending).decode(),
            "wait": not container.running,
        }
        with suppress(NotFoundError):  # it ended meanwhile: there is nothing more to see
            await self._context.stdio.request(message, (client.fileno(),))
        client.close()

    async def use_fifos(self, key: str, fds: Mapping[str, int]) -> None:
        """Copy the streams of the process *key*, when it runs, from and to named pipes."""
        message = {"op": "attach", "key": key, "wait": True, "fifos": list(fds)}
        await self._context.stdio.request(message, (*fds.values(),))

    async def drop_fifos(self, key: str) -> None:
        """Close the named pipes that wait for the process *key*."""
        await self._context.stdio.request({"op": "detach", "key": key})

    async def _replay(
        self, container: Container, client: socket.socket, request: AttachRequest
    ) -> None:
        """Send what is logged already, framed as the stream that follows."""
        client.settimeout(0)
        loop = asyncio.get_running_loop()
        wanted = LogRequest(stdout=request.stdout, stderr=request.stderr)
        async for entries in self.logs(container, wanted):
            for entry in entries:
                data = entry.text
                if request.framed:
                    data = struct.pack(">BxxxI", _NUMBERS[entry.stream], len(data)) + data
                await loop.sock_sendall(client, data)

    async def logs(
        self, container: Container, request: LogRequest
    ) -> AsyncIterator[Sequence[LogEntry]]:
        """Yield what is logged, and with *follow* what comes, until the container is gone.

        Many entries at a time, for a step of the event loop costs more than an entry does.
        First comes an empty list: from then on the log is open, and stays so when the
        container is removed.
        """
        if not container.log_path:
            raise UnsupportedError("configured logging driver does not support reading")
        streams = frozenset(n for n in ("stdout", "stderr") if getattr(request, n))
        reader = LogReader(
            container.log_path,
            since_ns=request.since_ns,
            until_ns=request.until_ns,
            tail=request.tail,
            streams=streams,
        )
        try:
            yield []
            entries = reader.read()
            while batch := await in_thread(lambda: list(islice(entries, _BATCH))):
                yield list(map(_answer, batch))
            if request.follow:
                async for one in self._follow(container.id, reader):
                    yield one
        finally:
            reader.close()

    async def _follow(
        self, container_id: str, reader: LogReader
    ) -> AsyncIterator[Sequence[LogEntry]]:
        """Look for more; more seldom the longer nothing comes."""
        pause_s = _FIRST_PAUSE_S
        while True:
            over = not self._goes_on(container_id)
            found = False
            entries = reader.more()
            while batch := list(map(_answer, islice(entries, _BATCH))):
                found = True
                yield batch
            if over or reader.past_until:
                return
            pause_s = _FIRST_PAUSE_S if found else min(pause_s * 1.5, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    def _goes_on(self, container_id: str) -> bool:
        if not self._context.records.has(container_id):
            return False
        container = self._context.records.get(container_id)
        return container.running or container.status in (Status.RESTARTING, Status.CREATED)

    async def resize(self, container: Container, *, height: int, width: int) -> None:
        if not container.running:
            raise NotRunningError(f"Container {container.id} is not running")
        if not container.options.terminal:  # nothing to do, says Docker
            return
        message = {"op": "resize", "id": container.id, "height": height, "width": width}
        await self._context.shim.request(message)


def _answer(entry: Entry) -> LogEntry:
    return LogEntry(
        stream=entry.stream,
        time_ns=entry.time_ns,
        text=entry.text.encode(errors="surrogateescape"),
        attributes=entry.attributes,
    )
