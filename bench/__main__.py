"""Orlop beside docker, podman, ctr and runc: one run, alternating, medians and ratios.

python -m bench [--rounds 15] [--json FILE]
                [--only run,warm,exec,pull,memory,runtime,network,pythons]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import bench.images as images
from bench import engines, memory, network, oci, pythons, warm
from bench.measure import Series, alternate

BUSYBOX, DEBIAN = "busybox", "debian"


def run_to_exit(peers: Sequence[engines.Engine], image: str, rounds: int) -> dict[str, Series]:
    """`run --rm --network none IMAGE true`, the whole command as a user waits for it."""
    count = iter(range(10**9))

    def once(peer: engines.Engine) -> Callable[[], None]:
        return lambda: peer.call(peer.run, image, f"run-{os.getpid()}-{next(count)}")

    return alternate({peer.name: once(peer) for peer in peers}, rounds=rounds)


def execute(peers: Sequence[engines.Engine], image: str, rounds: int) -> dict[str, Series]:
    """`exec CONTAINER true` in a container that runs."""
    for peer in peers:
        peer.call(peer.start, image)
    try:
        return alternate(
            {peer.name: lambda peer=peer: peer.call(peer.execute, image) for peer in peers},  # type: ignore[misc]
            rounds=rounds,
        )
    finally:
        for peer in peers:
            peer.call(peer.remove, image)


def pull(peers: Sequence[engines.Engine], image: str, rounds: int) -> dict[str, Series]:
    """Pull of the Debian image from the loopback registry to a root that can be run."""

    def forget(peer: engines.Engine) -> Callable[[], None]:
        def delete() -> None:
            subprocess.run(
                peer.command(peer.delete, image),
                env={**os.environ, **peer.env},
                capture_output=True,
                check=False,
            )
            os.sync()

        return delete

    return alternate(
        {peer.name: lambda peer=peer: peer.call(peer.pull, image) for peer in peers},  # type: ignore[misc]
        rounds=rounds,
        before={peer.name: forget(peer) for peer in peers},
    )


MEASUREMENTS = {
    "run": (run_to_exit, BUSYBOX, 1),
    "exec": (execute, BUSYBOX, 1),
    "pull": (pull, DEBIAN, 4),
}


def table(title: str, series: dict[str, Series]) -> str:
    base = series["orlop"].median_ms
    lines = [title, f"  {'':10} {'median':>10} {'p99':>10} {'orlop/it':>9}"]
    lines += [
        f"  {name:10} {one.median_ms:7.1f} ms {one.p99_ms:7.1f} ms {base / one.median_ms:9.2f}"
        for name, one in series.items()
    ]
    return "\n".join(lines)


def measure(wanted: Sequence[str], rounds: int, folder: Path) -> dict[str, object]:
    """Run the *wanted* measurements; print tables as they come; return all values."""
    results: dict[str, object] = {}
    if {*wanted} - {"runtime", "network", "pythons"}:
        results = with_engines(wanted, rounds, folder)
    if "runtime" in wanted:
        results.update(oci.report(folder, rounds * 2))
    if "network" in wanted:
        results["network"] = network.report(folder, rounds)
    if "pythons" in wanted:
        results.update(pythons.report(folder, rounds))
    return results


def with_engines(wanted: Sequence[str], rounds: int, folder: Path) -> dict[str, object]:
    """Run those of the *wanted* measurements that are of engines."""
    results: dict[str, object] = {}
    with images.registry(folder) as registry, engines.running(engines.installed(), folder) as peers:
        references = {name: images.publish(name, registry) for name in (BUSYBOX, DEBIAN)}
        for peer in peers:
            peer.call(peer.pull, references[BUSYBOX])
        for name in wanted:
            if name in MEASUREMENTS:
                function, image, divisor = MEASUREMENTS[name]
                series = function(peers, references[image], max(3, rounds // divisor))
                print(
                    table(f"{name}: {(function.__doc__ or '').splitlines()[0]}", series), flush=True
                )
                results[name] = {key: one.values_ms for key, one in series.items()}
        if "warm" in wanted:
            results["warm"] = warm.report(peers[0], references[BUSYBOX], rounds * 4)
        if "memory" in wanted:
            results["memory"] = memory.report(peers[0], references[BUSYBOX])
    return results


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write every single value there")
    parser.add_argument(
        "--only",
        default="run,warm,exec,pull,memory,runtime,network",
        help="and pythons: Orlop alone, with each Python of the machine",
    )
    options = parser.parse_args(arguments)
    os.environ.pop("PYTHONPATH", None)  # ours, not the user's: with it `orlop` starts the slow way
    with tempfile.TemporaryDirectory(prefix="orlop-bench-") as folder:
        results = measure(options.only.split(","), options.rounds, Path(folder))
    if options.json:
        machine = {"kernel": os.uname().release, "cores": os.cpu_count(), "python": sys.version}
        document = {"time": time.strftime("%F %T"), "machine": machine, "results": results}
        options.json.write_text(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
