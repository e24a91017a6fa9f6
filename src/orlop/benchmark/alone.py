"""A part that is measured in a fork of its own, and ends there with all that it has changed.

The fork may move to other namespaces, raise limits, and replace code that it measures. What it
finds comes back as it goes, so that nothing is lost where it is interrupted or takes too long.
"""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NoReturn

from orlop.benchmark.bench import Bench, in_words
from orlop.errors import UnavailableError

_FORKS = multiprocessing.get_context("fork")  # it has the image, the plan and the part
_LONGEST_S = 1800.0
_ENDING_S = 90.0  # until it has ended what it has started
_POLL_S = 0.1


def measure_alone(bench: Bench, measure: Callable[[Bench], None]) -> None:
    """Have *measure* called in a fork; UnavailableError where it takes too long."""
    here, there = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_fork, args=(bench, measure, there))
    process.start()
    there.close()
    deadline = time.monotonic() + _LONGEST_S
    try:
        while _pass_on(here, bench):
            if time.monotonic() > deadline:
                raise UnavailableError(f"it has not ended after {_LONGEST_S:g} seconds")
    finally:
        process.terminate()
        process.join(_ENDING_S)
        process.kill()
        process.join()
        while _pass_on(here, bench):
            pass
    if process.exitcode:
        raise UnavailableError(f"its process ended with {process.exitcode}")


def _pass_on(here: "Connection[Any, Any]", bench: Bench) -> bool:
    """Hand on what the fork has found, if anything; False when it has ended."""
    bench.pulse()
    try:
        if here.poll(_POLL_S):
            bench.tell(here.recv())
    except EOFError:
        return False
    return True


def _end(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _fork(bench: Bench, measure: Callable[[Bench], None], there: "Connection[Any, Any]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a whole terminal: our parent ends us
    signal.signal(signal.SIGTERM, _end)
    bench.tell = there.send
    try:
        measure(bench)
    except Exception as error:  # nobody else is told
        bench.left_out(in_words(error))
