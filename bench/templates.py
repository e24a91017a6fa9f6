"""A run of a template beside `python -c` in a sandbox that is there, and in a new one.

python -m bench.templates [--rounds 50] [--json FILE]
    [--python PATH] [--mount FOLDER:FOLDER:ro] [--module numpy]

The engine is the one that the environment names. Of each way: milliseconds from the call
to its result. The code imports the module, which the template has done in its setup.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orlop
from bench.measure import Series, alternate, save

_GAP_S = 0.02  # between calls: who runs one after the other has no fork waiting
_THREADS = 8


def report(given: argparse.Namespace) -> dict[str, Any]:
    """Print and return what was measured."""
    code = f"import {given.module}" if given.module else "pass"
    imports = [given.module] if given.module else []
    how: dict[str, Any] = {"memory": "256m", "pids": 100, "mounts": given.mount}
    command = [given.python, "-c", code]

    def new_sandbox() -> None:
        with orlop.Sandbox(**how) as box:
            _check(box.run(command))

    template = orlop.Template(python=given.python, imports=imports, **how)
    with template, orlop.Sandbox(**how) as box:
        actions = {
            "Template.run": lambda: _check(template.run(code)),
            "Sandbox.run": lambda: _check(box.run(command)),
            "new Sandbox, run, closed": new_sandbox,
        }
        pause = dict.fromkeys(actions, lambda: time.sleep(_GAP_S))
        found = alternate(actions, rounds=given.rounds, before=pause)
        begin = time.perf_counter()
        with ThreadPoolExecutor(_THREADS) as threads:
            for result in threads.map(template.run, [code] * (given.rounds * 4)):
                _check(result)
        rate = given.rounds * 4 / (time.perf_counter() - begin)
    _show(code, found, rate)
    return {"ms": {name: series.values_ms for name, series in found.items()}, "rate": rate}


def _show(code: str, found: dict[str, Series], rate: float) -> None:
    print(f"{code!r}: milliseconds, median and p99")
    for name, series in found.items():
        print(f"  {name:26} {series.median_ms:7.1f} {series.p99_ms:7.1f}")
    print(f"  {_THREADS} threads with one template: {rate:.0f} runs a second")


def _check(result: orlop.Result) -> None:
    if result.exit_code != 0:
        raise SystemExit(result.stderr.decode(errors="replace"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--python", default="python3")
    parser.add_argument("--mount", action="append", default=[])
    parser.add_argument("--module", default="")
    given = parser.parse_args()
    save(given.json, report(given))


if __name__ == "__main__":
    main()
