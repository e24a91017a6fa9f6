"""`orlop-runtime` beside runc and crun: the same bundle, command by command, in turns.

Durations and processor time are those of the whole command, as wait4(2) has them:
its own, and what it has waited for, which for `run` and `exec` includes the container.
Memory is looked at in rounds of its own, in two ways:

    process   the largest resident set that one process had: busybox's `time -f %M`,
              for what we start ourselves begins as large as we are
    cgroup    the most that a memory cgroup with both the command and the container's
              in it was charged with, beyond what it had before
"""

import os
import resource
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bench.measure import alternate
from orlop.kernel.process import set_child_subreaper
from orlop.programs.oci.sealing import ANEW
from orlop.runtime import seccomp_default, seccomp_profile
from tests.integration.oci_runtime.program import SCRIPT, OCIBundle

_CGROUPS = Path("/sys/fs/cgroup")
_MEMORY_ROUNDS = 9
_MIB = 1 << 20
_INSIDE = 'echo $$ > "$0" && exec "$@"'  # sh's words: into a cgroup, and on


class Runtime:
    """A runtime's program, with a bundle, a state folder, a cgroup and a container of its own."""

    def __init__(self, name: str, program: str, folder: Path) -> None:
        folder.mkdir()
        self.name = name
        self.folder = folder
        self.cgroup = f"orlop-bench-{os.getpid()}-{name}"
        self.cpu_ms: list[float] = []
        self._program = [program, "--root", str(folder / "state")]
        self._front: Sequence[str] = ()
        self._bundle = bundle(folder / "bundle")
        self._bundle.linux["cgroupsPath"] = f"/{self.cgroup}/container"
        self._pid_file = folder / "pid"
        self._container = ""
        self._count = 0

    def call(self, verb: str, *words: str) -> None:
        """Run one command on the container to its end, and note its processor time."""
        options = [word for word in words if word.startswith("--")]
        if verb in ("create", "run"):
            options += ["--bundle", str(self._bundle.folder), "--pid-file", str(self._pid_file)]
        operands = [self._container, *(word for word in words if word not in options)]
        command = [*self._front, *self._program, verb, *options, *operands]
        usage = spawn(command, self.folder / "errors")
        self.cpu_ms.append(1000 * (usage.ru_utime + usage.ru_stime))

    @contextmanager
    def through(self, *words: str) -> Iterator[None]:
        """Have *words* before each command meanwhile."""
        self._front = words
        try:
            yield
        finally:
            self._front = ()

    def fresh(self, *args: str) -> None:
        """Have an id for a new container that will run *args*; the last one is taken away."""
        self.end()
        self._count += 1
        self._container = f"{self.cgroup}-{self._count}"
        self._bundle.process["args"] = list(args)
        self._bundle.write()

    def running(self) -> None:
        """Have a new container that stays."""
        self.fresh("sleep", "600")
        self.call("run", "--detach")

    def end(self) -> None:
        """Take the container away, if there is one, and its process."""
        with suppress(RuntimeError):
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
        for pattern in (
            f"*/{self.cgroup}/*/",
            f"{self.cgroup}/*/",
            f"*/{self.cgroup}/",
            self.cgroup,
        ):
            for path in _CGROUPS.glob(pattern):
                with suppress(OSError):
                    path.rmdir()


class Verb(NamedTuple):
    """What is timed, and what is done before the first time, and before each."""

    action: Callable[[Runtime], None]
    before: Callable[[Runtime], None]
    once: Callable[[Runtime], None] = lambda runtime: None


def _life(runtime: Runtime) -> None:
    runtime.call("create")
    runtime.call("start")
    runtime.wait()
    runtime.call("delete")


def _created(runtime: Runtime) -> None:
    runtime.fresh("sleep", "600")
    runtime.call("create")


def _ended(runtime: Runtime) -> None:
    runtime.running()
    runtime.call("kill", "KILL")
    runtime.wait()


def _nothing(runtime: Runtime) -> None:
    del runtime


VERBS = {
    "run": Verb(lambda runtime: runtime.call("run"), lambda runtime: runtime.fresh("true")),
    "exec": Verb(lambda runtime: runtime.call("exec", "true"), _nothing, Runtime.running),
    "create, start, delete": Verb(_life, lambda runtime: runtime.fresh("true")),
    "create": Verb(
        lambda runtime: runtime.call("create"), lambda runtime: runtime.fresh("sleep", "600")
    ),
    "start": Verb(lambda runtime: runtime.call("start"), _created),
    "state": Verb(lambda runtime: runtime.call("state"), _nothing, Runtime.running),
    "kill": Verb(lambda runtime: runtime.call("kill", "KILL"), Runtime.running),
    "delete": Verb(lambda runtime: runtime.call("delete"), _ended),
}


def report(folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Print and return all values by verb and kind, and by runtime."""
    set_child_subreaper()
    results: dict[str, dict[str, list[float]]] = {}
    peers: list[Runtime] = []
    try:
        for peer in installed(folder):
            peers.append(peer)
        able = [peer for peer in peers if can_run(peer)]
        for name, verb in VERBS.items():
            found = timed(able, verb, rounds)
            if name in ("run", "exec"):
                found.update(memory(able, verb))
            print(table(f"runtime {name}", found), flush=True)
            results.update({f"runtime {name} {kind}": series for kind, series in found.items()})
    finally:
        for peer in peers:
            peer.clear()
    return results


def bundle(folder: Path) -> OCIBundle:
    """Make a bundle of busybox: the namespaces, limits and seccomp policy that Docker gives."""
    made = OCIBundle(folder)
    made.linux["seccomp"] = seccomp_profile.resolve(seccomp_default.profile(), frozenset())
    made.linux["resources"] = {"memory": {"limit": 64 * _MIB}, "pids": {"limit": 64}}
    return made


def installed(folder: Path) -> Iterator[Runtime]:
    """Yield the runtimes that are here, Orlop's first, with a sealed place that is up to date."""
    spawn(["env", f"{ANEW}=1", str(SCRIPT), "--version"], folder / "errors")
    for name, program in (("orlop", str(SCRIPT)), ("runc", "runc"), ("crun", "crun")):
        if shutil.which(program):
            yield Runtime(name, program, folder / f"runtime-{name}")


def can_run(peer: Runtime) -> bool:
    """Whether it runs the bundle on this machine; if not, print why."""
    peer.fresh("true")
    try:
        peer.call("run")
    except RuntimeError as error:
        if peer.name == "orlop":
            raise
        print(f"runtime: without {peer.name}: {error}", flush=True)
        return False
    return True


def timed(peers: Sequence[Runtime], verb: Verb, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Time *verb* of each runtime in turn: milliseconds by the clock, and of processors."""
    cpu: dict[str, list[float]] = {peer.name: [] for peer in peers}

    def prepare(peer: Runtime) -> None:
        verb.before(peer)
        peer.cpu_ms.clear()

    def act(peer: Runtime) -> None:
        verb.action(peer)
        cpu[peer.name].append(sum(peer.cpu_ms))

    for peer in peers:
        verb.once(peer)
    wall = alternate(
        {peer.name: lambda peer=peer: act(peer) for peer in peers},  # type: ignore[misc]
        rounds=rounds,
        before={peer.name: lambda peer=peer: prepare(peer) for peer in peers},  # type: ignore[misc]
    )
    return {
        "ms": {name: series.values_ms for name, series in wall.items()},
        "cpu_ms": {name: values[1:] for name, values in cpu.items()},
    }


def memory(peers: Sequence[Runtime], verb: Verb) -> dict[str, dict[str, list[float]]]:
    """Look at *verb*'s peaks, in MiB: of the largest process, and of the cgroup."""
    found: dict[str, dict[str, list[float]]] = {
        kind: {peer.name: [] for peer in peers} for kind in ("process_mib", "cgroup_mib")
    }
    for peer in peers:
        verb.once(peer)
    for number in range(_MEMORY_ROUNDS + 1):
        for peer in peers:
            process, cgroup = _peaks(peer, verb)
            if number:
                found["process_mib"][peer.name].append(process)
                found["cgroup_mib"][peer.name].append(cgroup)
    return found


def _peaks(peer: Runtime, verb: Verb) -> tuple[float, float]:
    folder = _memory_cgroup(peer.cgroup)
    command = folder / "command"
    command.mkdir(parents=True, exist_ok=True)
    verb.before(peer)
    kib = peer.folder / "kib"
    with peer.through("busybox", "time", "-f", "%M", "-o", str(kib)):
        verb.action(peer)
    verb.before(peer)
    name = "memory.peak" if (folder / "memory.peak").exists() else "memory.max_usage_in_bytes"
    with (folder / name).open("r+b", buffering=0) as peak:
        peak.write(b"0")  # v2 counts anew for whoever reads this open file
        peak.seek(0)
        before = int(peak.read())
        with peer.through("sh", "-c", _INSIDE, str(command / "cgroup.procs")):
            verb.action(peer)
        peak.seek(0)
        return int(kib.read_text()) / 1024, (int(peak.read()) - before) / _MIB


def _memory_cgroup(name: str) -> Path:
    v1 = _CGROUPS / "memory"
    return (v1 if v1.is_dir() else _CGROUPS) / name


def spawn(words: Sequence[str], errors: Path) -> resource.struct_rusage:
    """Run a program without input or output to its end; RuntimeError with its words if it fails."""
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    pid = os.posix_spawnp(words[0], [*words], os.environ, file_actions=files)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(words)}: {errors.read_text().strip()}")
    return usage


def table(name: str, results: dict[str, dict[str, list[float]]]) -> str:
    """Put medians beside each other, and that of the rounds' ratios of the first one to each."""
    lines = [name]
    for kind, series in results.items():
        first = next(iter(series))
        for peer, values in series.items():
            pairs = zip(series[first], values, strict=True)
            ratio = statistics.median(ours / theirs for ours, theirs in pairs)
            middle = statistics.median(values)
            lines.append(f"  {kind:12} {peer:10} {middle:8.1f}   {first}/it {ratio:5.2f}")
    return "\n".join(lines)
