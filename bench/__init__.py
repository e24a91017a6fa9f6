"""Parts of `orlop bench` for work on Orlop itself: make bench, or

    .venv/bin/python -m orlop bench --also bench

They use what is in tests/, and so are no part of what is installed.
"""

from bench import (
    attach,
    cni,
    dns,
    engine_start,
    network,
    pull,
    pythons,
    runtimes,
    start,
    templates,
    throughput,
    vxlan,
)
from orlop.benchmark.bench import Part

PARTS = {
    "pull": Part("A pull of a Debian image", pull.measure, "p50_ms"),
    "runtimes": Part("OCI runtimes, command by command", runtimes.measure, "p50_ms", alone=True),
    "pythons": Part("Orlop with each Python", pythons.measure, "p50_ms", alone=True),
    "templates": Part("Runs of a template", templates.measure, settings=templates.SETTINGS),
    "start": Part(
        "A start by the runtime alone, and each step of the child", start.measure, alone=True
    ),
    "engine_start": Part(
        "A start by engine and shim, without a client", engine_start.measure, alone=True
    ),
    "cni": Part("orlop-cni beside bridge and host-local", cni.measure, "add_p50_ms", alone=True),
    "attach": Part(
        "A namespace on a bridge, by how many there are",
        attach.measure,
        settings={"ipv6": ""},
        alone=True,
    ),
    "network": Part("What a network adds to a run", network.measure, alone=True),
    "throughput": Part(
        "TCP through containers' networks",
        throughput.measure,
        settings=throughput.SETTINGS,
        alone=True,
    ),
    "dns": Part("Names", dns.measure, "per_second", settings={"seconds": "2"}, alone=True),
    "vxlan": Part(
        "A network over two hosts beside the wire",
        vxlan.measure,
        settings={"seconds": "2"},
        alone=True,
    ),
}
