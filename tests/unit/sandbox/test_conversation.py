"""Conversations over plain descriptors: pipes, and a pidfd for the end. No engine is needed."""

import gc
import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import cast

import pytest

from orlop.errors import WrongStateError
from orlop.model.timeline import Step
from orlop.sandbox.processes.process import Process
from orlop.sandbox.result import StreamName, Usage
from orlop.sandbox.way import Box, Command, End, Handle


class Local:
    """A Handle of a process of this machine."""

    def __init__(self, command: Command) -> None:
        stdin = subprocess.PIPE if command.has_input else subprocess.DEVNULL
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command.words, stdin=stdin, stdout=pipe, stderr=pipe, process_group=0
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._outputs: dict[int, StreamName] = {
            self._process.stdout.fileno(): "stdout",
            self._process.stderr.fileno(): "stderr",
        }
        self._pidfd = os.pidfd_open(self._process.pid)
        self._code: int | None = None
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def readable(self) -> Collection[int]:
        return (*self._outputs, *(() if self.ended else (self._pidfd,)))

    @property
    def writable(self) -> int:
        stdin = self._process.stdin
        return -1 if stdin is None or stdin.closed else stdin.fileno()

    @property
    def pending(self) -> bool:
        return False

    def receive(self, ready: Collection[int]) -> Iterator[tuple[StreamName, bytes]]:
        for descriptor in ready:
            if descriptor == self._pidfd:
                self._code = self._process.wait()
            elif data := os.read(descriptor, 1 << 16):
                yield self._outputs[descriptor], data
            else:
                del self._outputs[descriptor]

    def send(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self.writable, data)
        except BlockingIOError:
            return 0

    def end_input(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def ended(self) -> bool:
        return self._code is not None

    def end(self) -> End:
        if self._code is None:
            raise WrongStateError("it runs")
        return End(self._code, Usage())

    def steps(self) -> Sequence[Step]:
        return ()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)

    def resize(self, size: object) -> None:
        raise WrongStateError("no terminal")

    def close(self) -> None:
        os.close(self._pidfd)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


class Here:
    """As much of a Box as a conversation needs."""

    def exec(self, command: Command) -> Handle:
        return Local(command)


def process(script: str, *, has_input: bool = False, timeout: float | None = None) -> Process:
    command = Command(words=["sh", "-c", script], has_input=has_input, timeout=timeout)
    return Process(cast("Box", Here()), command)


def test_input_and_output_larger_than_every_buffer_pass_at_once() -> None:
    data = os.urandom(3 << 20)
    with process("tee /dev/stderr; exit 3", has_input=True) as running:
        running.send(data, end=True)
        result = running.result()
    assert (result.exit_code, result.stdout, result.stderr) == (3, data, data)


def test_command_that_closes_its_output_is_waited_for() -> None:
    with process("exec >&- 2>&-; sleep 0.2; exit 7") as running:
        assert running.result()[:3] == (7, b"", b"")


def test_command_that_reads_no_input_ends() -> None:
    with process("exit 0", has_input=True) as running:
        running.send(bytes(8 << 20), end=True)
        assert running.result().exit_code == 0


def test_time_limit_ends_the_tree() -> None:
    with process("echo begun; sleep 600 & sleep 600", timeout=0.5) as running:
        result = running.result()
    assert (result.timed_out, result.stdout) == (True, b"begun\n")


def test_conversation_that_is_dropped_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    running = process("cat", has_input=True)
    running.send(b"x", end=True)
    assert running.result().stdout == b"x"
    del running
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_close_kills_what_runs() -> None:
    with process("sleep 600 & sleep 600") as running, pytest.raises(WrongStateError):
        running.exit_code  # noqa: B018 (that is the test)
