"""All measurements of networks, each a program of its own.

Of its own, because each moves to namespaces where engines may do what they like, and
ends with all that it started; and because one that hangs is ended alone.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Part(NamedTuple):
    title: str
    options: Sequence[str]
    rounds_of: int  # one round for so many of those asked for; 0 where there are none
    least: int
    timeout_s: float


PARTS = {
    "network_run": Part("what the default network adds to `run --rm IMAGE true`", [], 1, 3, 600),
    "throughput": Part("throughput with iperf3", [], 3, 3, 900),
    "dns": Part("names", [], 5, 3, 600),
}
_TIME_TO_CLEAN_UP_S = 90


def report(folder: Path, rounds: int, wanted: Sequence[str] = tuple(PARTS)) -> dict[str, object]:
    """Run the parts, which print as they go; return all values of those that did not fail."""
    results: dict[str, object] = {}
    for name in wanted:
        part, values = PARTS[name], folder / f"{name}.json"
        print(f"network: {part.title}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", *part.options, "--json", str(values)]
        if part.rounds_of:
            command += ["--rounds", str(max(part.least, rounds // part.rounds_of))]
        if (status := run(command, part.timeout_s)) != 0:
            print(f"  failed: `{' '.join(command[1:])}` ended with {status}", flush=True)
        elif values.exists():
            results[name] = json.loads(values.read_text())
    return results


def run(command: Sequence[str], timeout_s: float) -> int:
    """Return a program's status; it is asked to end when its time is over."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            return process.wait(_TIME_TO_CLEAN_UP_S)
        finally:
            process.kill()
