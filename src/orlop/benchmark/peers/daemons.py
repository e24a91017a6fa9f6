"""Daemons that are started for a run, in folders of their own, and ended with it."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orlop.benchmark.processes import kill_marked
from orlop.errors import NotFoundError, UnavailableError

_STARTING_S = 60.0
_ENDING_S = 30.0
_ASKING_S = 30.0
_POLL_S = 0.1


def required(program: str) -> None:
    """NotFoundError where there is no such *program*."""
    if shutil.which(program) is None:
        raise NotFoundError(f"there is no {program}")


def answers(words: Sequence[str]) -> bool:
    """Whether a question, such as for the version, is answered."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_ASKING_S,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@contextmanager
def daemon(
    command: Sequence[str], folder: Path, question: Sequence[str], run: Path
) -> Iterator[None]:
    """Start a daemon, and go on when it answers; at the end nothing runs that names *run*."""
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _STARTING_S
        while not answers(question):
            if process.poll() is not None or time.monotonic() > deadline:
                last = log.read_text(errors="replace").strip().rpartition("\n")[2]
                raise UnavailableError(f"{command[0]} did not start: {last}")
            time.sleep(_POLL_S)
        yield
    finally:
        _end(process, run)


def _end(process: subprocess.Popen[bytes], run: Path) -> None:
    process.terminate()
    try:
        process.wait(_ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    kill_marked(str(run))
