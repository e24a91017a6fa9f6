"""What the runtime takes, and what it gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from orlop.model.mount import Mount
from orlop.model.oci import Config

if TYPE_CHECKING:
    from orlop.runtime.cgroups.interface import Cgroup


class Bundle(NamedTuple):
    """A container to be: a relative root.path is resolved against *path*."""

    id: str
    path: str
    config: Config
    rootfs: tuple[Mount, ...] = ()  # empty: root.path is used as it is


class Stdio(NamedTuple):
    """Descriptors for 0, 1 and 2; they stay the caller's."""

    stdin: int
    stdout: int
    stderr: int


class Target(NamedTuple):
    """A running container, to run another process in."""

    id: str
    pid: int
    pidfd: int
    config: Config
    cgroup: Cgroup | None


class Starting(NamedTuple):
    """A process that has been made, and whose steps run.

    *report* gives the child's failure as JSON, or only its end of file once the
    program runs. The descriptors are the caller's to close.
    """

    what: str  # begins its errors: "cannot start container …"
    pid: int
    pidfd: int
    report: int
    console: int | None  # the terminal's master
    cgroup: Cgroup | None
    owns_cgroup: bool  # made for this process: it goes if the start fails
