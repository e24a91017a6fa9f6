"""Input that a command does not read yet: kept without copies, up to a limit, then waited for."""

import asyncio
import os
import signal
import threading
import time
import tracemalloc
from contextlib import suppress
from typing import cast

import pytest

from orlop.errors import WrongStateError
from orlop.sandbox.asynchronous.classes import AsyncProcess
from orlop.sandbox.processes.process import Process
from tests.unit.sandbox.test_conversation import Local, process

MB = 1 << 20
STOPPED = "kill -STOP $$; wc -c"  # reads nothing until it is let go on


def go_on(stopped: Process) -> None:
    """Let it read; it may not have stopped yet."""
    local = cast("Local", stopped._handle)
    while not local.ended and _state(local.pid) != "T":
        time.sleep(0.01)
    os.kill(local.pid, signal.SIGCONT)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_input_is_not_copied() -> None:
    data = bytes(64 * MB)
    with process(STOPPED, has_input=True) as stopped:
        tracemalloc.start()
        try:
            stopped.send(data)
            stopped.send(b"and this", end=True)
            assert tracemalloc.get_traced_memory()[1] < 4 * MB
        finally:
            tracemalloc.stop()
        go_on(stopped)
        assert int(stopped.result().stdout) == len(data) + len(b"and this")


def test_who_sends_too_much_waits_for_the_command_to_read() -> None:
    sent: list[int] = []

    def send() -> None:
        for _ in range(48):
            stopped.send(bytes(MB))
            sent.append(MB)
        stopped.send(b"", end=True)

    with process(STOPPED, has_input=True) as stopped:
        sender = threading.Thread(target=send)
        sender.start()
        before = -1
        while before != len(sent):
            before = len(sent)
            time.sleep(0.5)
        assert len(sent) < 20
        go_on(stopped)
        assert int(stopped.result().stdout) == 48 * MB
        sender.join()


def test_close_ends_the_wait() -> None:
    def send() -> None:
        with suppress(WrongStateError):  # unless its end is seen first
            stopped.send(b"never")

    with process(STOPPED, has_input=True) as stopped:
        stopped.send(bytes(20 * MB))
        sender = threading.Thread(target=send)
        sender.start()
    sender.join(60)
    assert not sender.is_alive()
    with pytest.raises(WrongStateError, match="let go of"):
        stopped.send(b"nor this")


def test_cancelled_send_sends_nothing_and_holds_up_nobody() -> None:
    stopped = process(STOPPED, has_input=True)

    async def converse() -> None:
        async with AsyncProcess(stopped) as running:
            await running.send(bytes(20 * MB))
            waiting = asyncio.ensure_future(running.send(b"never"))
            for _ in range(5):  # which would take until the command reads
                await asyncio.sleep(0.05)
            assert not waiting.done()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            go_on(stopped)
            ending = asyncio.ensure_future(running.send(b"", end=True))
            assert int((await running.result()).stdout) == 20 * MB
            await ending

    asyncio.run(converse())
