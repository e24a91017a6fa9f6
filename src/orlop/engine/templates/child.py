"""One fork of a template, from before its birth until nothing of it is left."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence

import msgspec

from orlop.engine.templates.messages import Messages, readable
from orlop.engine.templates.zygote import Forked, Zygote
from orlop.engine.threads import in_thread
from orlop.errors import OrlopError, UnavailableError
from orlop.kernel.process import pidfd_send_signal
from orlop.model.oci import Resources
from orlop.runtime import cgroups

_SIGKILL = 9
_REMOVE_S = 20.0


class Told(msgspec.Struct, frozen=True):
    """What a guard says when all has ended: an exit code, and numbers as in shim/usage.py."""

    status: int
    usage: list[int]


class Child:
    """A guard with the process that it guards, which waits for its code.

    The guard is the first of a pid namespace: killed, it takes along all that is in there.
    """

    def __init__(self, zygote: Zygote, cgroup: cgroups.Cgroup, messages: Messages) -> None:
        self._zygote = zygote
        self._cgroup = cgroup
        self._messages = messages
        self._forked: Forked | None = None
        self._ended: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def make(cls, zygote: Zygote, path: str, limits: Resources) -> "Child":
        """Return one that waits, in a cgroup of its own at *path*."""
        cgroup, doors = await in_thread(_enterable, path, limits)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = cls(zygote, cgroup, Messages(ours))
        try:
            try:
                child._forked = await zygote.fork([theirs.fileno(), *doors])
            finally:
                theirs.close()
                for door in doors:
                    os.close(door)
            pidfd = child._forked.pidfd
            child._ended = asyncio.get_running_loop().create_task(readable(pidfd))
            await child._be_ready()
        except BaseException:
            await child.close()
            raise
        return child

    async def _be_ready(self) -> None:
        try:
            body = (await self._messages.receive()).body
        except ConnectionResetError:
            body = {}
        if "ready" not in body:
            raise UnavailableError(str(body.get("error", "a run was ended before it began")))

    def go(self, fds: Sequence[int]) -> None:
        """Let it run: stdin, stdout, stderr and the code. ConnectionError if it has ended."""
        self._messages.send({"op": "go"}, fds)

    async def wait(self) -> Told | None:
        """Wait for the end of all that it has started; None if it was killed."""
        try:
            message = await self._messages.receive()
        except ConnectionResetError:
            if self._ended is not None:
                await asyncio.shield(self._ended)
            return None
        message.close()
        try:
            return msgspec.convert(message.body, Told)
        except msgspec.ValidationError:  # no guard of ours
            return None

    @property
    def was_out_of_memory(self) -> bool:
        """Whether the kernel has killed one of its processes for want of memory."""
        try:
            return self._cgroup.oom_kills() > 0
        except (OSError, OrlopError):  # as where memory is not counted
            return False

    def kill(self) -> None:
        """Begin its end, and that of all it has started."""
        if self._forked is not None:
            with contextlib.suppress(OSError):
                pidfd_send_signal(self._forked.pidfd, _SIGKILL)

    async def close(self) -> None:
        """End it and leave nothing of it; not cut short by a cancellation."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self.kill()
        if self._forked is not None:
            if self._ended is not None:
                await asyncio.wait({self._ended}, timeout=10)
                self._ended.cancel()
            self._zygote.reap(self._forked.pid)
            os.close(self._forked.pidfd)
            self._forked = None
        self._messages.close()
        await in_thread(discard, self._cgroup)


def discard(cgroup: cgroups.Cgroup) -> None:
    """End all that is in *cgroup*, and remove it."""
    with contextlib.suppress(OSError, OrlopError):
        cgroup.kill()
    with contextlib.suppress(OSError, OrlopError):
        cgroup.remove(timeout_s=_REMOVE_S)


def _enterable(path: str, limits: Resources) -> tuple[cgroups.Cgroup, tuple[int, ...]]:
    """Return a new cgroup, and what a process writes "0" to to be in it.

    Where v1 has the limits, v2 is left alone: to move there takes up to 25 ms.
    """
    cgroup = cgroups.create(path, limits)
    try:
        if doors := cgroup.doors():
            return cgroup, doors
        procs = f"{cgroup.directories['']}/cgroup.procs"
        return cgroup, (os.open(procs, os.O_WRONLY | os.O_CLOEXEC),)
    except BaseException:
        discard(cgroup)
        raise
