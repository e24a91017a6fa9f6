"""What the default network adds to `run --rm IMAGE true`, beside Docker's: with it and without.

    python -m bench.network_run [--rounds 15]

All in network and mount namespaces of their own. Runs alternate, and the difference of
two medians is told, for half of a run is the command's own start.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.dns import docker, move_away, orlop
from bench.measure import alternate
from tests.integration import engines

_WITHOUT = ("--network", "none")


def compare(folder: Path, rounds: int) -> None:
    archive = engines.docker_archive(
        folder / "busybox.tar", tags=["busybox:bench"], config={"Env": ["PATH=/bin"]}
    )
    with ExitStack() as stack:
        actions: dict[str, Callable[[], None]] = {}
        for engine in (orlop, docker):
            call = stack.enter_context(engine(folder / engine.__name__))
            call("load", "-q", "-i", str(archive))
            actions[f"{engine.__name__} with"] = _run(call)
            actions[f"{engine.__name__} without"] = _run(call, *_WITHOUT)
        series = alternate(actions, rounds=rounds)
    for name in ("orlop", "docker"):
        on, off = series[f"{name} with"].median_ms, series[f"{name} without"].median_ms
        print(f"{name:8} {on:7.1f} ms with, {off:7.1f} ms without: {on - off:6.1f} ms")


def _run(call: Callable[..., str], *options: str) -> Callable[[], None]:
    def once() -> None:
        call("run", "--rm", *options, "busybox:bench", "true")

    return once


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.network_run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="orlop-bench-") as folder:
        move_away(Path(folder))
        compare(Path(folder), options.rounds)


if __name__ == "__main__":
    main(sys.argv[1:])
