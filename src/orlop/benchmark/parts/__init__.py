"""What is measured: a part drives all drivers, and adds rows."""

from orlop.benchmark.bench import Part
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

PARTS = {
    "warm": Part("One start after the other", warm.measure, "first_p50_ms"),
    "concurrency": Part("Many at once", concurrency.measure, "per_second"),
    "exec": Part("A command in a running sandbox", execs.measure, "p50_ms"),
    "pool": Part("A warm sandbox from a pool", pools.measure),
    "fork": Part("Copies of a sandbox", forks.measure),
    "neighbours": Part("Beside a hostile neighbour", neighbours.measure),
    "density": Part("Many that live", density.measure),
    "soak": Part("Very many in a row, and what is left", soak.measure),
}
