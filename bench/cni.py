"""`orlop-cni` beside Debian's bridge and host-local: ADD and DEL of one attachment, in turns.

In a network and a mount namespace of its own. Durations are of the whole command, and
processor time is the command's with what it has waited for. Namespaces are made ahead.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from orlop.benchmark.bench import Bench
from tests.integration.cni.hosts import Host, Namespace, host

OURS = Path(sys.executable).with_name("orlop-cni")
DEBIAN = Path("/usr/lib/cni")

PEERS = {
    "orlop-cni": (OURS, "orlop-cni", "orlop-cni"),
    "bridge": (DEBIAN / "bridge", "bridge", "host-local"),
}


class Both(NamedTuple):
    add_ms: float
    add_cpu_ms: float
    delete_ms: float
    delete_cpu_ms: float


def configuration(kind: str, ipam: str, *, masquerade: bool) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "name": kind,
        "type": kind,
        "bridge": f"b-{kind}"[:12],
        "isDefaultGateway": True,
        "ipMasq": masquerade,
        "ipam": {"type": ipam, "ranges": [[{"subnet": f"10.{len(kind)}.0.0/16"}]]},
    }


@contextmanager
def namespace(there: Host) -> Iterator[Namespace]:
    made = there.container()
    try:
        yield made
    finally:
        made.close()


def call(there: Host, program: Path, command: str, config: bytes, at: Namespace) -> list[float]:
    """Run one command; its duration and processor time in milliseconds."""
    environment = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"c{at.fd}",
        "CNI_NETNS": at.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(DEBIAN),
    }

    def measured() -> list[float]:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([program], env=environment, input=config, capture_output=True, check=True)
        took = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return [1000 * took, 1000 * cpu]

    return there(measured)


def once(there: Host, name: str, *, masquerade: bool) -> Both:
    """Attach a namespace, and take it off again."""
    program, kind, ipam = PEERS[name]
    config = json.dumps(configuration(kind, ipam, masquerade=masquerade)).encode()
    with namespace(there) as at:
        add, delete = (call(there, program, command, config, at) for command in ("ADD", "DEL"))
    return Both(*add, *delete)


def measure(bench: Bench) -> None:
    """Attach --starts namespaces with each plugin, in turns."""
    for masquerade in (False, True):
        case = "with ipMasq" if masquerade else "without ipMasq"
        with host() as there:
            actions = {name: partial(once, there, name, masquerade=masquerade) for name in PEERS}
            bench.alternate(actions, bench.plan.starts, partial(bench.add_each, case=case))
