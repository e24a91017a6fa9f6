"""The namespaces and the root of a container that runs, by its first process: surely its own."""

import contextlib
import os
import select
from collections.abc import Iterator, Mapping

from orlop.engine.containers.kind import kind_of
from orlop.errors import NotRunningError
from orlop.model.container import Container

#: As config.json calls them, and as /proc/PID/ns does.
NAMES = {"ipc": "ipc", "pid": "pid", "network": "net"}


def open_namespace(container: Container, kind: str) -> contextlib.AbstractContextManager[int]:
    """Give a descriptor of its namespace *kind* ("net", "mnt"); WrongStateError if it has ended."""
    return _opened(container, f"ns/{kind}", os.O_RDONLY)


def open_root(container: Container) -> contextlib.AbstractContextManager[int]:
    """Give a descriptor of its root with all that is mounted; WrongStateError if it has ended."""
    return _opened(container, "root", os.O_RDONLY | os.O_DIRECTORY)


@contextlib.contextmanager
def _opened(container: Container, name: str, flags: int) -> Iterator[int]:
    """Open what /proc has by *name* of the container's first process.

    A pid may mean another process by now. The pidfd tells whether the process that
    had it when we looked is still there after we have looked, and the cgroup whose it is.
    """
    with contextlib.ExitStack() as ours:
        try:
            process = os.pidfd_open(container.pid)
            ours.callback(os.close, process)
            opened = os.open(f"/proc/{container.pid}/{name}", flags | os.O_CLOEXEC)
            ours.callback(os.close, opened)
            is_its = _is_of(container)
        except (OSError, ValueError):
            is_its = False
        if not is_its or _has_ended(process):
            raise NotRunningError(f"Container {container.id[:12]} is not running")
        yield opened


@contextlib.contextmanager
def open_namespaces(owners: Mapping[str, Container]) -> Iterator[dict[str, int]]:
    """Give descriptors by kind, each of another container's namespace."""
    with contextlib.ExitStack() as opened:
        yield {
            kind: opened.enter_context(open_namespace(owner, NAMES[kind]))
            for kind, owner in owners.items()
        }


def _has_ended(process: int) -> bool:
    ended = select.poll()  # select() knows no descriptors above 1023
    ended.register(process, select.POLLIN)
    return bool(ended.poll(0))


def _is_of(container: Container) -> bool:
    """Whether the process is in the container's cgroup: named by its id, a sandbox's otherwise."""
    own = f"/{container.id}" if kind_of(container).has_own_cgroup else f":{container.cgroup}\n"
    with open(f"/proc/{container.pid}/cgroup", encoding="utf-8") as file:
        return any(own in line for line in file)
