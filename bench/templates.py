"""A run of a template beside `python -c` in a sandbox that is there, and in a new one.

Milliseconds from the call to its result. The code imports a module, which the template has
done in its setup.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orlop
from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import milliseconds
from orlop.benchmark.load import load
from orlop.benchmark.orlop_driver import Orlop
from orlop.errors import UnavailableError

SETTINGS = {"python": "python3", "module": "", "mount": ""}
_GAP_S = 0.02  # between calls: who runs one after the other has no fork waiting
_THREADS = 8


def measure(bench: Bench) -> None:
    """Run --starts times in each way, then from eight threads at once."""
    module, mount = bench.settings["module"], bench.settings["mount"]
    code = f"import {module}" if module else "pass"
    command = [bench.settings["python"], "-c", code]
    engine = next(driver.engine for driver in bench.drivers if isinstance(driver, Orlop))
    how: dict[str, Any] = {"memory": "256m", "pids": 100, "engine": engine}
    how["mounts"] = [mount] if mount else []
    imports = [module] if module else []

    def new_sandbox() -> orlop.Result:
        with orlop.Sandbox(**how) as box:
            return box.run(command)

    template = orlop.Template(python=command[0], imports=imports, **how)
    with template, orlop.Sandbox(**how) as box:
        ways: dict[str, Callable[[], orlop.Result]] = {
            "Template.run": lambda: template.run(code),
            "Sandbox.run": lambda: box.run(command),
            "new Sandbox, run, closed": new_sandbox,
        }
        actions = {name: partial(_time, way) for name, way in ways.items()}
        bench.alternate(actions, bench.plan.starts, partial(bench.add_each, case=code))
        once = partial(_check, partial(template.run, code))
        found = load(once, clients=_THREADS, count=bench.plan.starts * 4, pulse=bench.pulse)
    case = f"{code}, {_THREADS} at once"
    bench.add("Template.run", {"rounds": len(found.done), "per_second": found.rate}, case=case)


def _time(run: Callable[[], orlop.Result]) -> float:
    time.sleep(_GAP_S)
    return milliseconds(partial(_check, run))


def _check(run: Callable[[], orlop.Result]) -> None:
    result = run()
    if result.exit_code != 0:
        raise UnavailableError(result.stderr.decode(errors="replace"))
