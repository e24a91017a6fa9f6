"""Procedures: the machine code is its listing's, and does what the listing says."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from orlop.kernel import numbers, procedure
from orlop.kernel.procedure import Procedure, Slot, Strings, is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="x86-64 alone")

_CLOSE, _MMAP, _MREMAP, _DUP, _PAUSE, _GETPID, _EXIT, _KILL = 3, 9, 25, 32, 34, 39, 60, 62
_HERE, _NO_FD, _PRIVATE_ANONYMOUS = -100, 0x7FFFFFFF, 0x22
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


class Ran(NamedTuple):
    """What became of a run: how the child ended, and what the table says afterwards."""

    status: int
    failure: tuple[int, int] | None
    results: list[int]


def _run(*written: Procedure, flags: int = 0) -> Ran:
    """Carry them out one after the other; return what became of the last.

    In a process of its own, for the children are its parent's: ours.
    """
    reader, writer = os.pipe()
    helper = os.fork()
    if not helper:
        try:
            told = []
            for one in written:
                pid, failure = one.run(flags), one.failure()
                told.append([pid, failure, [one.result(call) for call in range(one.calls)]])
            os.write(writer, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        told = json.load(answer)
    os.waitpid(helper, 0)
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _, _ in told]
    _, failure, results = told[-1]
    return Ran(ends[-1], tuple(failure) if failure else None, results)


def _ends(written: Procedure, status: int = 0) -> Procedure:
    written.call(_EXIT, status)
    written.finish()
    return written


def _said(pipe: tuple[int, int]) -> bytes:
    os.set_blocking(pipe[0], False)
    try:
        return os.read(pipe[0], 4096)
    except BlockingIOError:
        return b""


@pytest.mark.skipif(shutil.which("as") is None, reason="no assembler")
def test_the_machine_code_is_that_of_the_listing(tmp_path: Path) -> None:
    assert procedure.__doc__ is not None
    listing = textwrap.dedent(procedure.__doc__[procedure.__doc__.index("    run:") :])
    lines = [line.split(";")[0].rstrip() for line in listing.splitlines()]
    source = "\n".join(_whole(line) for line in lines)
    (tmp_path / "code.s").write_text(f".intel_syntax noprefix\n{source}\n")
    subprocess.run(["as", "--64", "-o", tmp_path / "code.o", tmp_path / "code.s"], check=True)
    copied = ["objcopy", "-O", "binary", "-j", ".text"]
    subprocess.run([*copied, tmp_path / "code.o", tmp_path / "code"], check=True)
    assert (tmp_path / "code").read_bytes().hex() == procedure._CODE.hex()


def _whole(line: str) -> str:
    """Write out what the listing leaves to its reader: the arguments after the first."""
    if "…" not in line:
        return line.replace("jz 1f", "jz 9f") if line.strip() == "jz 1f" else line
    text = ["9:"]
    for place, register in enumerate(_ARGUMENTS[1:], 1):
        text += [
            f"mov {register}, [r12+{8 * place + 8}]",
            f"test bl, {1 << place}",
            f"jz {place}f",
            f"mov {register}, [{register}]",
            f"{place}:",
        ]
    return "\n".join([*text, "mov r9, [r12+48]"])


def test_calls_are_made_in_order_with_what_earlier_ones_returned(pipe: tuple[int, int]) -> None:
    written = Procedure()
    other = written.call(_DUP, pipe[1])
    written.call(numbers.WRITE, other, b"one ", 4)
    written.call(numbers.WRITE, other, b"two", 3)
    written.call(_CLOSE, other)
    ran = _run(_ends(written, 7))
    assert (ran.status, ran.failure) == (7, None)
    assert ran.results[other.call] > 2
    assert _said(pipe) == b"one two"


def test_each_argument_but_the_last_can_be_a_result(pipe: tuple[int, int]) -> None:
    written = Procedure()
    zero = written.call(_CLOSE, written.call(_DUP, pipe[1]))
    three = written.call(numbers.WRITE, pipe[1], b"abc", 3)
    page, other = (
        written.call(_MMAP, zero, three, three, _PRIVATE_ANONYMOUS, zero, 0) for _ in range(2)
    )
    moved = written.call(_MREMAP, page, three, three, three, other)
    written.call(_EXIT, three)
    written.finish()
    ran = _run(written)
    assert (ran.status, ran.failure) == (3, None)
    assert ran.results[moved.call] == ran.results[other.call] != ran.results[page.call]


def test_the_first_failure_ends_it_and_is_told(pipe: tuple[int, int]) -> None:
    written = Procedure()
    written.call(numbers.WRITE, pipe[1], b"before", 6)
    failing = written.call(_CLOSE, _NO_FD)
    written.call(numbers.WRITE, pipe[1], b"after", 5)
    ran = _run(_ends(written))
    assert (ran.status, ran.failure) == (1, (failing.call, errno.EBADF))
    assert _said(pipe) == b"before"


def test_a_failure_that_may_be_is_none(pipe: tuple[int, int]) -> None:
    written = Procedure()
    failing = written.call(_CLOSE, _NO_FD, may_fail=True)
    written.call(numbers.WRITE, pipe[1], b"after", 5)
    ran = _run(_ends(written))
    assert (ran.status, ran.failure) == (0, None)
    assert ran.results[failing.call] == -errno.EBADF
    assert _said(pipe) == b"after"


@pytest.mark.parametrize("fails", [True, False])
def test_a_failure_can_leave_out_the_next_call(pipe: tuple[int, int], fails: bool) -> None:
    written = Procedure()
    written.call(_DUP, Slot("which"), else_skip=True)
    written.call(numbers.WRITE, pipe[1], b"next ", 5)
    written.call(numbers.WRITE, pipe[1], b"after", 5)
    _ends(written).fill("which", _NO_FD if fails else pipe[1])
    assert _run(written).status == 0
    assert _said(pipe) == (b"after" if fails else b"next after")


def test_slots_are_filled_for_each_run(pipe: tuple[int, int]) -> None:
    written = Procedure()
    written.call(numbers.WRITE, Slot("where"), Slot("text"), 3)
    written.call(numbers.WRITE, Slot("where"), b".", 1)
    _ends(written)
    assert written.slots == {"where", "text"}
    written.fill("where", pipe[1])
    for text in (b"one", b"two"):
        written.fill("text", written.keep(text))
        assert _run(written).status == 0
    assert _said(pipe) == b"one.two."


def test_a_run_forgets_the_failure_before_it() -> None:
    written = Procedure()
    written.call(_DUP, written.call(numbers.OPENAT, _HERE, b"made", os.O_CREAT | os.O_EXCL, 0))
    _ends(written)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        assert _run(written).failure is None
        assert _run(written).failure == (0, errno.EEXIST)
        os.unlink("made")
        assert _run(written, written).failure == (0, errno.EEXIST)
        os.unlink("made")
        assert _run(written).failure is None


def test_only_the_last_page_of_numbers_are_errors(pipe: tuple[int, int]) -> None:
    """Others, which addresses can be, are not, though their first bit is set."""
    written = Procedure()
    for number in (1, 4095, 4096, 1 << 63):
        written.call(number)
    written.finish()
    table = written._table
    assert table is not None
    for call, told in enumerate((-1, -4095, -4096, -(1 << 63))):
        table[9 + 9 * call] = told & (1 << 64) - 1
        assert written.result(call) == told


def test_it_becomes_a_program_with_arguments_and_environment(pipe: tuple[int, int]) -> None:
    written = Procedure()
    written.call(numbers.DUP3, pipe[1], 1, 0)
    words, env = Strings([b"sh", b"-c", b'echo "$A" "$@"', b"sh", b"x y"]), Strings([b"A=b c"])
    written.call(numbers.EXECVE, b"/bin/sh", words.address, env.address)
    written.finish()
    assert _run(written)[:2] == (0, None)
    assert _said(pipe) == b"b c x y\n"


def test_a_program_that_is_not_there_is_a_failure_of_its_call() -> None:
    written = Procedure()
    words = Strings([b"x"])
    ran = written.call(numbers.EXECVE, b"/no/such", words.address, words.address)
    written.finish()
    assert _run(written)[:2] == (1, (ran.call, errno.ENOENT))


def test_who_is_killed_on_the_way_has_not_failed() -> None:
    written = Procedure()
    written.call(_KILL, written.call(_GETPID), 9)
    written.call(_PAUSE)
    written.finish()
    assert _run(written)[:2] == (-9, None)


def test_signals_that_python_handles_are_not_handled_in_a_child() -> None:
    written = Procedure()
    written.call(_KILL, written.call(_GETPID), signal.SIGUSR1)
    written.call(_PAUSE)
    written.finish()
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        assert _run(written).status == -signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_clone_that_is_refused_is_told() -> None:
    written = _ends(Procedure())
    with pytest.raises(OSError, match="clone3"):
        written.run(0x00000800)  # CLONE_SIGHAND, which handlers that are set back rule out


def test_the_listing_has_the_tables_places() -> None:
    assert procedure.__doc__ is not None
    found = {int(place) for place in re.findall(r"r12\+(\d+)", procedure.__doc__)}
    assert found == {8, 8 * procedure._FLAGS, 8 * procedure._RESULT}
    assert f"add r12, {procedure._BYTES}" in procedure.__doc__
