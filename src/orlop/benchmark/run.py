"""One run: the drivers made ready, the parts one after the other, and all of it ended."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from orlop.benchmark import machine, orlop_engine
from orlop.benchmark.alone import measure_alone
from orlop.benchmark.bench import Bench, Found, Part, Results
from orlop.benchmark.driver import BenchDriver
from orlop.benchmark.figures import Row
from orlop.benchmark.image import Image
from orlop.benchmark.peers.command import orlop_program
from orlop.benchmark.peers.containerd import containerd
from orlop.benchmark.peers.docker import docker, orlop_command, podman
from orlop.benchmark.peers.floor import floor
from orlop.benchmark.peers.oci import OURS, runtime
from orlop.benchmark.peers.traces import remove_folder, swept
from orlop.benchmark.plan import BenchPlan
from orlop.errors import OrlopError, PermissionDeniedError

_PEERS: Mapping[str, Callable[..., AbstractContextManager[Sequence[BenchDriver]]]] = {
    "docker": docker,
    "podman": podman,
    "ctr": containerd,
    "runc": partial(runtime, program="runc"),
    "crun": partial(runtime, program="crun"),
    OURS: partial(runtime, program=orlop_program(OURS)),
    "orlop-command": orlop_command,
    "floor": floor,
}
#: Who leaves folders and cgroups behind.
_SWEEPING = {"docker", "podman", "ctr"}
_NEEDED_MB = 600


def results_of(plan: BenchPlan, parts: Mapping[str, Part]) -> Results:
    """Return what a run of *plan* on this machine begins with."""
    return Results(machine=machine.describe(), plan=asdict(plan), parts=parts)


def run(
    plan: BenchPlan,
    results: Results,
    say: Callable[[str, float], None],
    keep: Callable[[], None],
) -> None:
    """Measure the parts of *results*, as *plan* says; *say* is told what is done, and how far.

    *keep* is called after each part, to write down what there is.

    However it ends, all that it has started is ended: engines, sandboxes, folders.
    """
    if os.geteuid() != 0:
        raise PermissionDeniedError("only root can run the benchmark", hint="use sudo")
    tell = partial(_tell, results, say)
    with ExitStack() as stack:
        if _SWEEPING & {*plan.peers}:
            stack.enter_context(swept())
        folders = stack.enter_context(_folders(plan))
        say("image", 0)
        bench = Bench(plan, Image(folders[0]), folders, tell)
        if not bench.image.compiled:
            tell("the compiled probe: there is no C compiler; date stands in")
        last = {name: part for name, part in results.parts.items() if not part.alone}
        for name, part in results.parts.items():
            if part.alone:
                _measure(bench, name, part, keep)
        if last:
            bench.drivers = _drivers(bench, stack, tell)
        for name, part in last.items():
            _measure(bench, name, part, keep)


def _tell(results: Results, say: Callable[[str, float], None], found: Found) -> None:
    """Keep what was found, and say how far it is."""
    if isinstance(found, Row):
        results.rows.append(found)
    elif isinstance(found, str):
        results.left_out.append(found)
    else:
        say(*found)


def _drivers(bench: Bench, stack: ExitStack, tell: Callable[[Found], None]) -> list[BenchDriver]:
    """Start Orlop's engine and the peers; say who is left out, and what is different."""
    drivers: list[BenchDriver] = []
    drivers += stack.enter_context(orlop_engine.running(bench.image, *bench.places("orlop")))
    for name in bench.plan.peers:
        tell((f"starting {name}", 0))
        try:
            peer = _PEERS[name](bench.image, *bench.places(name), start=bench.plan.start_peers)
            drivers += stack.enter_context(peer)
        except (OrlopError, OSError) as error:
            tell(f"{name}: {error}")
    for driver in drivers:
        if driver.note:
            tell(f"{driver.name}: {driver.note}")
    return drivers


def _measure(bench: Bench, name: str, part: Part, keep: Callable[[], None]) -> None:
    bench.begin(name, part.settings)
    try:
        if part.alone:
            measure_alone(bench, part.measure)
        else:
            part.measure(bench)
    except (OrlopError, OSError) as error:  # what it had started was not to be removed
        bench.left_out(str(error))
    keep()


@contextmanager
def _folders(plan: BenchPlan) -> Iterator[Sequence[Path]]:
    """Make one for state and, in memory, one for sockets and the like; remove them."""
    free_mb = shutil.disk_usage(plan.folder).free // 1_000_000
    if free_mb < _NEEDED_MB:
        raise OrlopError(f"{plan.folder} has only {free_mb} MB free", hint="choose a --folder")
    with ExitStack() as stack:
        made = []
        for parent in (plan.folder, plan.run_folder):
            made.append(Path(tempfile.mkdtemp(prefix="orlop-bench-", dir=parent)))
            stack.callback(remove_folder, made[-1])
        yield made
