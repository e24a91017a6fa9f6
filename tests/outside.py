"""Tests are in a network namespace of their own, but for what has to fetch something."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orlop.kernel.namespaces import Namespace, setns, unshare

_machines: list[int] = []  # the namespaces that were left, the machine's own first


@contextmanager
def in_network_of_its_own() -> Iterator[None]:
    """Be, with every process started inside, in a network namespace with a loopback only."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _machines.append(before)
    try:
        unshare(Namespace.NET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        setns(before, Namespace.NET)
        _machines.remove(before)
        os.close(before)


def outside(command: Sequence[str]) -> list[str]:
    """Return the command line that runs *command* in the machine's own network."""
    if not _machines:
        return [*command]
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{_machines[0]}", *command]
