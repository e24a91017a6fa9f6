"""The engine's end of the conversation with a template's process (orlop/zygote)."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from orlop.engine.templates.messages import Message, Messages
from orlop.errors import InvalidArgumentError, UnavailableError
from orlop.zygote.source import program


class Forked(NamedTuple):
    """A guard: its pid as the zygote knows it, and a pidfd, which is the receiver's to close."""

    pid: int
    pidfd: int


class Door:
    """A socket at a path, for one process to come in by, once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(0)
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.bind(f"/proc/self/fd/{folder}/{path.name}")  # the path may be too long
        finally:
            os.close(folder)
        path.chmod(0o666)  # root in there is somebody else here; the folder is ours alone
        self._socket.listen(1)

    async def accept(self) -> Messages:
        client, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        self.close()
        return Messages(client)

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


class Zygote:
    """One request at a time; UnavailableError once the process is gone."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._turn = asyncio.Lock()

    async def begin(self, options: dict[str, Any]) -> dict[str, int]:
        """Send the program, and wait for the end of imports and setup.

        Returns the ids of the user that runs are to be. InvalidArgumentError with what the
        interpreter said where they failed.
        """
        text = msgspec.json.encode(program(options))
        sent = os.memfd_create("orlop-template", os.MFD_CLOEXEC)
        try:
            written = 0
            while written < len(text):
                written += os.pwrite(sent, text[written:], written)
            answer = await self._ask({"op": "begin"}, [sent])
        finally:
            os.close(sent)
        if "error" in answer.body:
            raise InvalidArgumentError(f"the template cannot be made: {answer.body['error']}")
        return {name: int(answer.body[name]) for name in ("uid", "gid")}

    async def fork(self, fds: Sequence[int]) -> Forked:
        """Have a guard forked with these descriptors: its socket, and its cgroup's doors."""
        answer = await self._ask({"op": "fork"}, fds)
        if len(answer.fds) != 1 or "pid" not in answer.body:
            answer.close()
            raise UnavailableError(str(answer.body.get("error", "the template does not fork")))
        return Forked(int(answer.body["pid"]), answer.fds[0])

    def reap(self, pid: int) -> None:
        """Have a guard that has ended forgotten."""
        with contextlib.suppress(OSError):
            self._messages.send({"op": "reap", "pid": pid})

    async def answers(self) -> bool:
        """Whether its process is there: asked, for what it has forked may have its socket, too."""
        try:
            (await self._ask({"op": "answer"}, [])).close()
        except UnavailableError:
            return False
        return True

    @property
    def gone(self) -> bool:
        """Whether its process has ended."""
        return self._messages.ended

    async def _ask(self, body: dict[str, Any], fds: Sequence[int]) -> Message:
        async with self._turn:
            try:
                self._messages.send(body, fds)
                return await self._messages.receive()
            except OSError as error:
                raise UnavailableError("the template's process has ended") from error

    async def close(self) -> None:
        """Let it end: it does once nobody is there."""
        self._messages.shut()
        async with self._turn:  # who has waited for an answer knows that there is none
            self._messages.close()
