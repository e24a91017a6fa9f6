"""How long from the call to the container's first instruction, with what Docker's default has."""

import fcntl
import functools
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from orlop.benchmark.bench import Bench
from orlop.kernel.process import wait_exit
from orlop.runtime import init, seccomp_default, seccomp_profile
from orlop.runtime.bundle import Bundle, Stdio
from orlop.runtime.child import Child, Step
from orlop.runtime.start import start, wait_ready
from tests.integration.runtime.box import Box


class Times(NamedTuple):
    """Milliseconds from the call: until it returns, until the program runs, and to its end."""

    call_ms: float
    first_ms: float
    total_ms: float


def once(bundle: Bundle, stdio: Stdio) -> Times:
    """Start one container."""
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
    return Times(*(1000 * (at - begin) for at in (called, ready, ended)))


def timed(writer: int) -> None:
    """Make every step write its name and its duration to *writer*."""
    plain = init.last_steps

    def steps(child: Child) -> Sequence[Step]:
        return [functools.wraps(step)(_timed(step, writer)) for step in plain(child)]

    init.last_steps = steps


def _timed(step: Step, writer: int) -> Step:
    def call(child: Child) -> None:
        begin = time.perf_counter()
        step(child)
        took = time.perf_counter() - begin
        os.write(writer, f"{step.__name__} {1e3 * took}\n".encode())

    return call


def measure(bench: Bench) -> None:
    """Start --starts, and as many again with each step of the child timed."""
    folder = bench.places("start")[0]
    box = Box(folder)
    box.config["linux"]["seccomp"] = seccomp_profile.resolve(seccomp_default.profile(), frozenset())
    box.process["args"] = ["true"]
    bundle = Bundle(box.id, str(folder), box.config, box.rootfs)
    null = os.open(os.devnull, os.O_RDWR)
    stdio = Stdio(null, null, null)
    bench.alternate({"orlop": lambda: once(bundle, stdio)}, bench.plan.starts)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    timed(writer)
    bench.each({"its steps": lambda: once(bundle, stdio)}, bench.plan.starts)
    os.close(writer)
    for name, took_ms in steps(reader).items():
        bench.add("a step", {"best_ms": min(took_ms)}, case=name, samples={"ms": took_ms})


def steps(reader: int) -> dict[str, list[float]]:
    """Return what each step took; the best of them is what it takes when nothing else runs."""
    took: dict[str, list[float]] = {}
    with open(reader) as lines:
        for line in lines:
            name, _, value = line.partition(" ")
            took.setdefault(name, []).append(float(value))
    return took
