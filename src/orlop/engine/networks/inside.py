"""The network namespace of a running container, if it has its own."""

import contextlib
import os
from collections.abc import Iterator

from orlop.engine.joining import open_namespace
from orlop.errors import WrongStateError
from orlop.model.container import Container


@contextlib.contextmanager
def open_network(container: Container) -> Iterator[int]:
    """Yield a descriptor; WrongStateError if the container has ended, or shares the host's."""
    with open_namespace(container, "net") as namespace, _host_network() as host:
        if os.path.sameopenfile(namespace, host):
            raise WrongStateError(f"container {container.name} is in the host's network namespace")
        yield namespace


@contextlib.contextmanager
def _host_network() -> Iterator[int]:
    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
