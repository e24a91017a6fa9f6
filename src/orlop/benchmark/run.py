"""One run: the drivers made ready, the parts one after the other, and all of it ended."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from orlop.benchmark import machine, orlop_engine
from orlop.benchmark.driver import Driver
from orlop.benchmark.figures import Results
from orlop.benchmark.image import Image
from orlop.benchmark.parts import (
    concurrency,
    density,
    execs,
    forks,
    neighbours,
    pools,
    soak,
    warm,
)
from orlop.benchmark.parts.bench import Bench
from orlop.benchmark.peers.containerd import containerd
from orlop.benchmark.peers.docker import docker, podman
from orlop.benchmark.peers.floor import floor
from orlop.benchmark.peers.runc import runc
from orlop.benchmark.peers.traces import remove_folder, swept
from orlop.benchmark.plan import Plan
from orlop.errors import OrlopError, PermissionDeniedError

MEASURED: Mapping[str, Callable[[Bench], None]] = {
    "warm": warm.measure,
    "concurrency": concurrency.measure,
    "exec": execs.measure,
    "pool": pools.measure,
    "fork": forks.measure,
    "neighbours": neighbours.measure,
    "density": density.measure,
    "soak": soak.measure,
}
_PEERS: Mapping[str, Callable[..., AbstractContextManager[Sequence[Driver]]]] = {
    "docker": docker,
    "podman": podman,
    "ctr": containerd,
    "runc": runc,
    "floor": floor,
}
#: Who leaves folders and cgroups behind.
_SWEEPING = {"docker", "podman", "ctr"}
_NEEDED_MB = 600


def results_of(plan: Plan) -> Results:
    """Return what a run of *plan* on this machine begins with."""
    return Results(machine=machine.describe(), plan=asdict(plan))


def run(
    plan: Plan,
    results: Results,
    say: Callable[[str, float], None],
    keep: Callable[[], None],
) -> None:
    """Measure what *plan* says, into *results*; *say* is told what is done, and how far it is.

    *keep* is called after each part, to write down what there is.

    However it ends, all that it has started is ended: engines, sandboxes, folders.
    """
    if os.geteuid() != 0:
        raise PermissionDeniedError("only root can run the benchmark", hint="use sudo")
    with ExitStack() as stack:
        if _SWEEPING & {*plan.peers}:
            stack.enter_context(swept())
        folder, run_folder = stack.enter_context(_folders(plan))
        say("image", 0)
        image = Image(folder)
        if not image.compiled:
            results.left_out.append("the compiled probe: there is no C compiler; date stands in")
        drivers: list[Driver] = []
        drivers += stack.enter_context(
            orlop_engine.running(image, _made(folder / "orlop"), _made(run_folder / "orlop"))
        )
        for name in plan.peers:
            say(f"starting {name}", 0)
            place = _made(folder / name), _made(run_folder / name)
            try:
                peer = _PEERS[name](image, *place, start=plan.start_peers)
                drivers += stack.enter_context(peer)
            except (OrlopError, OSError) as error:
                results.left_out.append(f"{name}: {error}")
        results.left_out += [f"{one.name}: {one.note}" for one in drivers if one.note]
        bench = Bench(plan, results, drivers, say)
        for part in plan.parts:
            bench.begin(part)
            try:
                MEASURED[part](bench)
            except (OrlopError, OSError) as error:  # what it had started was not to be removed
                bench.left_out(str(error))
            keep()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def _folders(plan: Plan) -> Iterator[tuple[Path, Path]]:
    """Make one for state and, in memory, one for sockets and the like; remove them."""
    free_mb = shutil.disk_usage(plan.folder).free // 1_000_000
    if free_mb < _NEEDED_MB:
        raise OrlopError(f"{plan.folder} has only {free_mb} MB free", hint="choose a --folder")
    with ExitStack() as stack:
        made = []
        for parent in (plan.folder, plan.run_folder):
            made.append(Path(tempfile.mkdtemp(prefix="orlop-bench-", dir=parent)))
            stack.callback(remove_folder, made[-1])
        yield made[0], made[1]
