"""What Orlop's starts cost with each supported Python that the machine has, in turns.

    run, exec   whole commands of orlop-runtime, as in the part runtimes
    command     the whole command `orlop run --rm`, whose engine runs
    Sandbox     one, started and closed by a program that has done so before

The first Python is the one that runs this; environments for the others are made below .venv.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench import runtimes
from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import milliseconds
from orlop.benchmark.peers.docker import orlop_command
from tests import interpreters

_SANDBOXES = """
import sys
import orlop
for _ in sys.stdin:
    with orlop.Sandbox():
        pass
    print(flush=True)
"""


def measure(bench: Bench) -> None:
    """Start --starts of each kind with each Python."""
    others = interpreters.others().items()
    ours = "orlop, Python {}.{}".format(*sys.version_info)
    folders = {
        ours: Path(sys.executable).parent,
        **{f"orlop, Python {name}": interpreters.environment(name, path) for name, path in others},
    }
    with ExitStack() as stack:
        programs = {name: str(folder / "orlop-runtime") for name, folder in folders.items()}
        verbs = {verb: runtimes.VERBS[verb] for verb in ("run", "exec")}
        runtimes.compare(bench, runtimes.subjects(bench, stack, programs), verbs)
    with ExitStack() as stack:
        commands, sandboxes = {}, {}
        for name, folder in folders.items():
            state, run = bench.places(name)
            program = str(folder / "orlop")
            made = orlop_command(bench.image, state, run, program=program)
            (driver,) = stack.enter_context(made)
            commands[name] = driver.once
            variables = {"ORLOP_ROOT": f"{state}/root", "ORLOP_RUN": str(run)}
            start = stack.enter_context(_starting(folder, variables))
            sandboxes[name] = partial(milliseconds, start)
        starts = bench.plan.starts
        bench.alternate(commands, starts, partial(bench.add_each, case="command"))
        bench.alternate(sandboxes, starts, partial(bench.add_each, case="Sandbox"))


@contextmanager
def _starting(place: Path, environment: dict[str, str]) -> Iterator[Callable[[], None]]:
    """Yield what has one sandbox started and closed by a program that stays."""
    with subprocess.Popen(
        [place / "python", "-c", _SANDBOXES],
        env={**interpreters.variables(), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def start() -> None:
            asked.write("\n")
            if not answers.readline():
                raise RuntimeError(f"{place}/python starts no sandbox")

        yield start
        asked.close()
