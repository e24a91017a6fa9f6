"""`orlop-runtime` beside runc and crun: the same bundle, command by command, in turns.

Durations and processor time are those of the whole command and of what it has waited for,
which for `run` and `exec` includes the container. Memory is looked at in rounds of its own:

    process   the largest resident set that one process had: busybox's `time -f %M`,
              for what we start ourselves begins as large as we are
    cgroup    the most that a memory cgroup with both the command and the container's
              in it was charged with, beyond what it had before
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from orlop.benchmark.bench import Bench, in_words
from orlop.benchmark.driver import milliseconds
from orlop.benchmark.figures import samples_of, spread
from orlop.benchmark.machine import clients_cpu_s
from orlop.benchmark.peers.command import orlop_program, unique
from orlop.benchmark.peers.oci import OURS, OCIRuntime, runtime
from orlop.errors import OrlopError
from orlop.kernel.process import set_child_subreaper

_CGROUPS = Path("/sys/fs/cgroup")
_MEMORY_ROUNDS = 9
_MIB = 1 << 20
_INSIDE = 'echo $$ > "$0" && exec "$@"'  # sh's words: into a cgroup, and on
_ENDS, _STAYS = ("true",), ("sleep", "600")


class Timed:
    """A runtime with one container at a time, all in a cgroup of its own."""

    def __init__(self, driver: OCIRuntime, folder: Path) -> None:
        self.cgroup = unique()
        self.cpu_ms = 0.0
        self.kib_file = folder / "kib"
        self._driver = driver
        self._pid_file = folder / "pid"
        self._bundles: Mapping[tuple[str, ...], Path] = {
            args: driver.bundle(args, cgroup=f"/{self.cgroup}/container")
            for args in (_ENDS, _STAYS)
        }
        self._front: Sequence[str] = ()
        self._container = ""
        self._bundle = Path()
        self._runs = False

    def call(self, verb: str, *words: str) -> None:
        """Run one command on the container to its end, and count its processor time."""
        options = [word for word in words if word.startswith("--")]
        if verb in ("create", "run"):
            options += ["--bundle", str(self._bundle), "--pid-file", str(self._pid_file)]
        operands = [self._container, *(word for word in words if word not in options)]
        command = [*self._front, *self._driver.front, verb, *options, *operands]
        before_s = clients_cpu_s()
        self._driver.detach(*command)
        self.cpu_ms += 1000 * (clients_cpu_s() - before_s)

    @contextmanager
    def through(self, *words: str) -> Iterator[None]:
        """Have *words* before each command meanwhile."""
        self._front = words
        try:
            yield
        finally:
            self._front = ()

    def fresh(self, args: tuple[str, ...] = _ENDS) -> None:
        """Have an id for a new container that will run *args*; the last one is taken away."""
        self.end()
        self._container, self._bundle, self._runs = unique(), self._bundles[args], False

    def running(self) -> None:
        """Have a new container that stays."""
        self.fresh(_STAYS)
        self.call("run", "--detach")

    def kept(self) -> None:
        """Have a container that stays, the last one if it does."""
        if not self._runs:
            self.running()
            self._runs = True

    def created(self) -> None:
        self.fresh(_STAYS)
        self.call("create")

    def killed(self) -> None:
        self.running()
        self.call("kill", "KILL")
        self.wait()

    def live(self) -> None:
        """From create to delete."""
        self.call("create")
        self.call("start")
        self.wait()
        self.call("delete")

    def end(self) -> None:
        """Take the container away, if there is one, and its process."""
        with suppress(OrlopError):
            if self._container:
                self.call("delete", "--force")
        self.wait()

    def wait(self) -> None:
        """Wait for the end of the container's process, which is our child as its runtime ended."""
        with suppress(FileNotFoundError, ChildProcessError):
            os.waitpid(int(self._pid_file.read_text()), 0)

    def clear(self) -> None:
        """Take everything away, cgroups that a runtime makes on the way to a container's, too."""
        self.end()
        name = self.cgroup
        for pattern in (f"*/{name}/*/", f"{name}/*/", f"*/{name}/", name):
            for path in _CGROUPS.glob(pattern):
                with suppress(OSError):
                    path.rmdir()


class Verb(NamedTuple):
    """What is timed, and what is done before each time."""

    action: Callable[[Timed], None]
    before: Callable[[Timed], None]


VERBS = {
    "run": Verb(lambda one: one.call("run"), Timed.fresh),
    "exec": Verb(lambda one: one.call("exec", "true"), Timed.kept),
    "create, start, delete": Verb(Timed.live, Timed.fresh),
    "create": Verb(lambda one: one.call("create"), lambda one: one.fresh(_STAYS)),
    "start": Verb(lambda one: one.call("start"), Timed.created),
    "state": Verb(lambda one: one.call("state"), Timed.kept),
    "kill": Verb(lambda one: one.call("kill", "KILL"), Timed.running),
    "delete": Verb(lambda one: one.call("delete"), Timed.killed),
}


class Took(NamedTuple):
    ms: float
    cpu_ms: float


class Peak(NamedTuple):
    process_mib: float
    cgroup_mib: float


def measure(bench: Bench) -> None:
    """Do each verb --starts times with each of the --peers that is a runtime."""
    programs = {OURS: orlop_program(OURS), "runc": "runc", "crun": "crun"}
    wanted = {name: program for name, program in programs.items() if name in bench.plan.peers}
    with ExitStack() as stack:
        compare(bench, subjects(bench, stack, wanted), VERBS)


def subjects(bench: Bench, stack: ExitStack, programs: Mapping[str, str]) -> dict[str, Timed]:
    """Make those ready that run containers here; say who is left out."""
    set_child_subreaper()
    found = {}
    for name, program in programs.items():
        folder, run = bench.places(f"runtimes {name}")
        try:
            made = runtime(bench.image, folder, run, start=False, program=program, name=name)
            (driver,) = stack.enter_context(made)
        except (OrlopError, OSError) as error:
            bench.left_out(f"{name}: {in_words(error)}")
        else:
            found[name] = Timed(driver, folder)
            stack.callback(found[name].clear)
    return found


def compare(bench: Bench, found: Mapping[str, Timed], verbs: Mapping[str, Verb]) -> None:
    """Measure *verbs*, and of `run` and `exec` memory, too."""
    for case, verb in verbs.items():
        peaks: dict[str, list[Peak]] = {}
        if case in ("run", "exec"):
            looks = {name: partial(_peak, subject, verb) for name, subject in found.items()}
            bench.alternate(looks, _MEMORY_ROUNDS, peaks.update)

        def add(
            times: Mapping[str, list[Took]],
            case: str = case,
            peaks: Mapping[str, list[Peak]] = peaks,
        ) -> None:
            for name, values in times.items():
                samples, memory = samples_of(values), samples_of(peaks.get(name, ()))
                figures = spread(samples) | {kind: median(mib) for kind, mib in memory.items()}
                bench.add(name, figures, case=case, samples=samples | memory)

        times = {name: partial(_timed, subject, verb) for name, subject in found.items()}
        bench.alternate(times, bench.plan.starts, add)


def _timed(subject: Timed, verb: Verb) -> Took:
    verb.before(subject)
    subject.cpu_ms = 0.0
    took_ms = milliseconds(lambda: verb.action(subject))
    return Took(took_ms, subject.cpu_ms)


def _peak(subject: Timed, verb: Verb) -> Peak:
    """Look at a verb's peaks: of the largest process, and of the cgroup."""
    v1 = _CGROUPS / "memory"
    folder = (v1 if v1.is_dir() else _CGROUPS) / subject.cgroup
    command = folder / "command"
    command.mkdir(parents=True, exist_ok=True)
    verb.before(subject)
    with subject.through("busybox", "time", "-f", "%M", "-o", str(subject.kib_file)):
        verb.action(subject)
    verb.before(subject)
    name = "memory.peak" if (folder / "memory.peak").exists() else "memory.max_usage_in_bytes"
    with (folder / name).open("r+b", buffering=0) as peak:
        peak.write(b"0")  # v2 counts anew for whoever reads this open file
        peak.seek(0)
        before = int(peak.read())
        with subject.through("sh", "-c", _INSIDE, str(command / "cgroup.procs")):
            verb.action(subject)
        peak.seek(0)
        charged = int(peak.read()) - before
    return Peak(int(subject.kib_file.read_text()) / 1024, charged / _MIB)
