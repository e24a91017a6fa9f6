"""A way into a cgroup below a container's, instead of the container's own."""

from __future__ import annotations

import os

from orlop.runtime.cgroups.files import write


class Entrance:
    """The part of a cgroup's handle that a child needs to enter it."""

    def __init__(self, path: str, directories: dict[str, str]) -> None:
        self.path = path
        self.directories = directories

    def clone_fd(self) -> int | None:
        if (directory := self.directories.get("")) is None:
            return None
        return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def enter(self, pid: int) -> None:
        for directory in self.directories.values():
            write(f"{directory}/cgroup.procs", str(pid))

    def doors(self) -> tuple[int, ...]:
        opened: list[int] = []
        try:
            for name, directory in self.directories.items():
                if name:
                    opened.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        return tuple(opened)
