"""What Orlop's starts cost with each supported Python that the machine has, in turns.

    python -m bench.pythons [ROUNDS]

    runtime run, exec   whole commands of orlop-runtime, as bench.oci has them
    run                 the whole command `orlop run --rm host true`, whose engine runs
    sandbox             a Sandbox, started and closed by a program that has done so before

The first Python is the one that runs this; environments for the others are made below .venv.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import engines, oci
from bench.measure import alternate
from orlop.kernel.process import set_child_subreaper
from orlop.programs.oci.sealing import ANEW
from tests import interpreters

_SANDBOXES = """
import sys
import orlop
for _ in sys.stdin:
    with orlop.Sandbox():
        pass
    print(flush=True)
"""


def programs() -> dict[str, Path]:
    """Return the folder of Orlop's programs for each Python, ours first."""
    ours = "{}.{}".format(*sys.version_info)
    others = interpreters.others().items()
    return {
        f"python{ours}": engines.BIN,
        **{f"python{version}": interpreters.environment(version, path) for version, path in others},
    }


def report(folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Print and return all values by what was measured and kind, and by Python."""
    pythons = programs()
    results = {}
    for name, found in (
        *_of_runtimes(pythons, folder, rounds),
        *_of_engines(pythons, folder, rounds),
    ):
        print(oci.table(name, found), flush=True)
        results.update({f"pythons {name} {kind}": series for kind, series in found.items()})
    return results


def _of_runtimes(
    pythons: dict[str, Path], folder: Path, rounds: int
) -> Iterator[tuple[str, dict[str, dict[str, list[float]]]]]:
    set_child_subreaper()
    with ExitStack() as stack:
        peers = []
        for name, place in pythons.items():
            program = str(place / "orlop-runtime")
            oci.spawn(["env", f"{ANEW}=1", program, "--version"], folder / "errors")
            peers.append(oci.Runtime(name, program, folder / f"runtime-{name}"))
            stack.callback(peers[-1].clear)
        for verb in ("run", "exec"):
            yield f"runtime {verb}", oci.timed(peers, oci.VERBS[verb], rounds)


def _of_engines(
    pythons: dict[str, Path], folder: Path, rounds: int
) -> Iterator[tuple[str, dict[str, dict[str, list[float]]]]]:
    runs: dict[str, Callable[[], None]] = {}
    sandboxes: dict[str, Callable[[], None]] = {}
    with ExitStack() as stack:
        for name, place in pythons.items():
            run = stack.enter_context(_run_folder())
            engine = stack.enter_context(engines.orlop(folder / name, run, programs=place))
            runs[name] = lambda engine=engine: engine.call(engine.run, "host")  # type: ignore[misc]
            sandboxes[name] = stack.enter_context(_starting(place, engine.env))
        for what, actions in (("run", runs), ("sandbox", sandboxes)):
            series = alternate(actions, rounds=rounds)
            yield what, {"ms": {name: one.values_ms for name, one in series.items()}}


@contextmanager
def _run_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="orlop-", dir=engines.MEMORY) as folder:
        yield Path(folder)


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


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory(prefix="orlop-bench-") as folder:
        report(Path(folder), rounds)


if __name__ == "__main__":
    main()
