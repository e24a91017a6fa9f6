"""The network namespace of a container that runs, by its first process: surely of that one."""

import contextlib
import os
import select
from collections.abc import Iterator

from orlop.errors import WrongStateError
from orlop.model.container import Container


@contextlib.contextmanager
def open_network(container: Container) -> Iterator[int]:
    """Give a descriptor of its namespace; WrongStateError if it has ended, or is ours.

    A pid may mean another process by now. The pidfd tells whether the process that
    had it when we looked is still there after we have looked, and the cgroup whose it is.
    """
    with contextlib.ExitStack() as ours:
        try:
            process = os.pidfd_open(container.pid)
            ours.callback(os.close, process)
            namespace = os.open(f"/proc/{container.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            ours.callback(os.close, namespace)
            is_its = _is_of(container)
        except (OSError, ValueError):
            is_its = False
        if not is_its or _has_ended(process):
            raise WrongStateError(f"Container {container.id[:12]} is not running")
        if os.path.sameopenfile(namespace, ours.enter_context(_host_network())):
            raise WrongStateError(f"container {container.name} is in the host's network namespace")
        yield namespace


def _has_ended(process: int) -> bool:
    ended = select.poll()  # select() knows no descriptors above 1023
    ended.register(process, select.POLLIN)
    return bool(ended.poll(0))


def _is_of(container: Container) -> bool:
    """Whether the process is in the container's cgroup, which is named by its id."""
    with open(f"/proc/{container.pid}/cgroup", encoding="utf-8") as file:
        return any(f"/{container.id}" in line for line in file)


@contextlib.contextmanager
def _host_network() -> Iterator[int]:
    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
