"""Processes that fetch and unpack layers: few, warm for a moment, gone when idle."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from orlop.engine.images.bounds import Bounds
from orlop.engine.threads import in_thread
from orlop.errors import UnavailableError
from orlop.images.job import MAX_LINE_BYTES, AnyJob, ArchiveJob, Job, Report, error_of
from orlop.layers.budget import DEFAULT, Budget
from orlop.model.pool import ObjectPool

_COMMAND = (sys.executable, "-I", "-m", "orlop.programs.worker")
log = logging.getLogger(__name__)
_FILTERS = "seccomp"  # compiled ones, in the run folder
_IDLE_S = 5.0
_ATTEMPTS = 2
_MOST_OF_ONE = max(2, os.cpu_count() or 1)
_MOST = 4 * _MOST_OF_ONE
_MOST_CLIENTS = 4 * _MOST_OF_ONE

#: Called in the event loop for each report before the last; what it returns is waited for.
Listener = Callable[[Report], Awaitable[None] | None]


class WorkerDiedError(UnavailableError):
    """Somebody killed the worker; what it had fetched is there for the next."""


class _Share:
    """The workers of one registry, or of images that are here already."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(_MOST_OF_ONE)
        self.users = 0


class Workers:
    """At most a worker a core for one registry. Made and used in one event loop; close() it."""

    def __init__(self, run: Path, budget: Budget = DEFAULT) -> None:
        self._bounds = Bounds(run, budget)
        self._command = (*_COMMAND, str(run / _FILTERS))
        self.missing: tuple[str, ...] = ()  # what cannot confine them here, once one has started
        self._slots = asyncio.Semaphore(_MOST)
        self._clients = asyncio.Semaphore(_MOST_CLIENTS)  # that send archives, at their own pace
        self._shares: dict[str, _Share] = {}
        self._idle = ObjectPool(end=_Worker.close_input, size=_MOST + _MOST_CLIENTS)

    async def run(self, job: AnyJob, listener: Listener = lambda _: None) -> int:
        """Do *job*; return the bytes that the layer, if it is one, takes on disk.

        Raises what the worker says was wrong. A worker that dies is replaced once,
        unless a client would have to send its archive again. When cancelled the worker is killed.
        """
        if isinstance(job, ArchiveJob):
            async with self._clients:
                return await self._once(job, listener)
        async with self._share(_host_of(job)), self._slots:
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await self._once(job, listener)
                except WorkerDiedError:
                    continue
            return await self._once(job, listener)

    @contextlib.asynccontextmanager
    async def _share(self, host: str) -> AsyncIterator[None]:
        """Wait for one of the places of *host*: one that is slow holds up its own images alone."""
        share = self._shares.setdefault(host, _Share())
        share.users += 1
        try:
            async with share.places:
                yield
        finally:
            share.users -= 1
            if not share.users:
                del self._shares[host]

    async def close(self) -> None:
        """End the workers that wait for work."""
        for worker in self._idle.withdraw(lambda _: True):
            await worker.end()
        await in_thread(self._bounds.remove)

    async def _once(self, job: AnyJob, listener: Listener) -> int:
        worker = self._idle.take() or await self._spawn()
        try:
            report = await worker.work(job, listener)
        except BaseException:
            await worker.end()
            raise
        self._idle.give_back(worker)
        asyncio.get_running_loop().call_later(_IDLE_S, self._idle.trim, _IDLE_S)
        if report.event == "failed":
            raise error_of(report)
        return report.size

    async def _spawn(self) -> "_Worker":
        worker, missing = await _Worker.spawn(self._command, self._bounds)
        if self._bounds.failed:
            missing = (*missing, "cgroup")
        if missing != self.missing:
            self.missing = missing
            log.warning("images are unpacked with less protection", extra={"missing": missing})
        return worker


def _host_of(job: AnyJob) -> str:
    """Return whom the job waits for; "" for nobody."""
    source = job.source if isinstance(job, Job) else None
    return source.endpoints[-1].host if source is not None else ""


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._decode = msgspec.json.Decoder(Report).decode

    @classmethod
    async def spawn(
        cls, command: Sequence[str], bounds: Bounds
    ) -> tuple["_Worker", tuple[str, ...]]:
        """Return a worker that is ready, and what this host lacks to confine its jobs."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        worker = cls(process)
        try:
            await in_thread(bounds.enter, process.pid)  # while it starts
            ready = await worker._report()
        except BaseException:
            await worker.end()
            raise
        return worker, ready.missing

    async def work(self, job: AnyJob, listener: Listener) -> Report:
        """Return the last report on *job*; WorkerDiedError when there will be none."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(job) + b"\n")
            await self._process.stdin.drain()
        except (ConnectionResetError, BrokenPipeError):
            raise self._died() from None
        while (report := await self._report()).event not in ("done", "failed"):
            if (work := listener(report)) is not None:
                await work
        return report

    def close_input(self) -> None:
        """Let it end by itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def end(self) -> None:
        """Kill it, and wait until it and the process of its job are gone."""
        assert self._process.stdout is not None
        if self._process.returncode is None:
            self._process.kill()
        self.close_input()
        await self._process.wait()
        while await self._process.stdout.read(MAX_LINE_BYTES):  # which both hold open
            pass

    async def _report(self) -> Report:
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
            if line.endswith(b"\n"):
                return self._decode(line)
        except ValueError:  # not a report: a stranger's code may have written it
            log.warning("a worker said what it should not", extra={"pid": self._process.pid})
        raise self._died()

    def _died(self) -> WorkerDiedError:
        return WorkerDiedError("the process that unpacks layers was killed", hint="try again")
