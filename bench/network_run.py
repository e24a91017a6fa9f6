"""What the default network adds to `run --rm IMAGE true`, beside Docker's: with it and without.

    python -m bench.network_run [--rounds 15] [--engines orlop,docker,podman]

Each engine is on a host of its own (bench/sites.py). Runs alternate, and the difference of
two medians is told, for half of a run is the command's own start.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import sites
from bench.measure import alternate, end_in_order, save

_WITHOUT = ("--network", "none")


def compare(folder: Path, names: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Measure and print; return every single value."""
    with sites.side_by_side(folder, names) as (hosts, _):
        actions: dict[str, Callable[[], None]] = {}
        for site in hosts:
            actions[f"{site.name} with"] = _run(site.call)
            actions[f"{site.name} without"] = _run(site.call, *_WITHOUT)
        series = alternate(actions, rounds=rounds)
    for name in names:
        on, off = series[f"{name} with"], series[f"{name} without"]
        adds = on.median_ms - off.median_ms
        without = f"{off.median_ms:7.1f} ms without"
        print(f"{name:8} {on.median_ms:7.1f} ms with, {without}: {adds:6.1f} ms")
    return {name: one.values_ms for name, one in series.items()}


def _run(call: Callable[..., str], *options: str) -> Callable[[], None]:
    def once() -> None:
        call("run", "--rm", *options, sites.IMAGE, "true")

    return once


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.network_run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--engines", default="orlop,docker,podman")
    parser.add_argument("--json", type=Path, help="write every single value there")
    options = parser.parse_args(arguments)
    end_in_order()
    names = sites.installed(options.engines.split(","))
    with tempfile.TemporaryDirectory(prefix="orlop-bench-") as folder:
        save(options.json, compare(Path(folder), names, options.rounds))


if __name__ == "__main__":
    main(sys.argv[1:])
