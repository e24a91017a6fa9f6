"""What the default network adds to `run --rm IMAGE true`: with it, and without any.

The difference of two medians, for half of a run is the command's own start.
"""

from collections.abc import Mapping
from functools import partial
from statistics import median

from bench import sites
from bench.sites import Site
from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import milliseconds
from orlop.benchmark.image import REFERENCE


def measure(bench: Bench) -> None:
    """Run --starts times with each engine in both ways, in turns."""

    def add(found: Mapping[str, list[float]]) -> None:
        for name in (name for name in found if f"{name} without" in found):
            on, off = found[name], found[f"{name} without"]
            figures = {"with_p50_ms": median(on), "without_p50_ms": median(off)}
            figures["adds_ms"] = median(on) - median(off)
            bench.add(name, figures, samples={"with_ms": on, "without_ms": off})

    with sites.side_by_side(bench, ["docker", "podman"]) as (hosts, _):
        actions = {}
        for site in hosts:
            actions[site.engine.name] = partial(_run, site)
            actions[f"{site.engine.name} without"] = partial(_run, site, "--network", "none")
        bench.alternate(actions, bench.plan.starts, add)


def _run(site: Site, *options: str) -> float:
    return milliseconds(lambda: site.call("run", "--rm", *options, REFERENCE, "true"))
