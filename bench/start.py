"""How long from the call to the container's first instruction, with what Docker's default has.

    python -m bench.start [RUNS] [STEPS]

Prints medians in milliseconds. With STEPS, also what each step of the child took.
"""

import fcntl
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from orlop.kernel.process import wait_exit
from orlop.runtime import init, seccomp_default, seccomp_profile
from orlop.runtime.bundle import Bundle, Stdio
from orlop.runtime.child import Child, Step
from orlop.runtime.start import start, wait_ready
from tests.integration.runtime.box import Box


def measure(bundle: Bundle, stdio: Stdio) -> tuple[float, float, float]:
    """Start one container; milliseconds of the call, until the program runs, and to its end."""
    begin = time.perf_counter()
    starting = start(bundle, stdio)
    called = time.perf_counter()
    wait_ready(starting)
    ready = time.perf_counter()
    wait_exit(starting.pidfd)
    ended = time.perf_counter()
    os.close(starting.pidfd)
    if starting.cgroup:
        starting.cgroup.remove()
    return 1000 * (called - begin), 1000 * (ready - begin), 1000 * (ended - begin)


def timed(writer: int) -> None:
    """Make every step write its name and its duration to *writer*."""
    plain = init.container_steps

    def steps(child: Child) -> Sequence[Step]:
        return [functools.wraps(step)(_timed(step, writer)) for step in plain(child)]

    init.container_steps = steps


def _timed(step: Step, writer: int) -> Step:
    def call(child: Child) -> None:
        begin = time.perf_counter()
        if step.__name__ == "run_program":
            os.write(writer, f"{step.__name__} {begin}\n".encode())
        step(child)
        took = time.perf_counter() - begin
        os.write(writer, f"{step.__name__} {1e6 * took:.0f}\n".encode())

    return call


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder))
        profile = seccomp_profile.resolve(seccomp_default.profile(), frozenset())
        box.config["linux"]["seccomp"] = profile
        box.process["args"] = ["true"]
        bundle = Bundle(box.id, folder, box.config, box.rootfs)
        null = os.open(os.devnull, os.O_RDWR)
        stdio = Stdio(null, null, null)
        measure(bundle, stdio)
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        if len(sys.argv) > 2:
            timed(writer)
        times = [measure(bundle, stdio) for _ in range(runs)]
        os.close(writer)
        for name, column in zip(
            ("start()", "first instruction", "end"), zip(*times, strict=True), strict=True
        ):
            print(f"{name:20}{statistics.median(column):8.2f} ms  (best {min(column):.2f})")
        show_steps(reader)


def show_steps(reader: int) -> None:
    """Print the best of each step, in microseconds: what it takes when nothing else runs."""
    took: dict[str, list[float]] = {}
    with open(reader) as lines:
        for line in lines:
            name, _, value = line.partition(" ")
            took.setdefault(name, []).append(float(value))
    for name, values in took.items():
        print(f"  {name:26}{min(values):8.0f} us")


if __name__ == "__main__":
    main()
