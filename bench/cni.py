"""`orlop-cni` beside Debian's bridge and host-local: ADD and DEL of one attachment, in turns.

python -m bench.cni [--rounds 40]

In a network and a mount namespace of its own. Durations are of the whole command, and
processor time is the command's with what it has waited for. Namespaces are made ahead.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.cni.hosts import Host, Namespace, host

OURS = Path(sys.executable).with_name("orlop-cni")
DEBIAN = Path("/usr/lib/cni")


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    peers = {
        "orlop-cni": (OURS, "orlop-cni", "orlop-cni"),
        "bridge": (DEBIAN / "bridge", "bridge", "host-local"),
    }
    for masquerade in (False, True):
        figures: dict[tuple[str, str], list[list[float]]] = {}
        with host() as there:
            for _ in range(rounds):
                for name, (program, kind, ipam) in peers.items():
                    given = configuration(kind, ipam, masquerade=masquerade)
                    config = json.dumps(given).encode()
                    with namespace(there) as at:
                        for command in ("ADD", "DEL"):
                            took = call(there, program, command, config, at)
                            figures.setdefault((command, name), []).append(took)
        print("with ipMasq" if masquerade else "without ipMasq")
        for (command, name), series in sorted(figures.items()):
            wall, cpu = (statistics.median(column) for column in zip(*series, strict=True))
            print(f"  {command:4} {name:10} {wall:7.1f} ms {cpu:7.1f} ms of processor")


if __name__ == "__main__":
    main()
