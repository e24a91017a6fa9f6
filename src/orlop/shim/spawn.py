"""What sandboxes hold in the shim: a recipe for all that were started by it, and each its own."""

from __future__ import annotations

import marshal
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from orlop.kernel.capabilities import BIT
from orlop.model.timeline import OFF
from orlop.runtime.bundle import Bundle
from orlop.runtime.cgroups import Cgroup
from orlop.runtime.cgroups.reusable import Group
from orlop.runtime.networks import Network
from orlop.runtime.recipe.plan import Planned
from orlop.runtime.recipe.writable import Writable
from orlop.shim.channel import Message
from orlop.shim.launcher import Command, Made, Start

#: With one of these a network namespace, or what else protects it, can be changed.
_POWERFUL = 1 << BIT["CAP_NET_ADMIN"] | 1 << BIT["CAP_SYS_ADMIN"]
#: With one of these a cgroup can be mounted, or programs be attached to it.
_ABOVE_LIMITS = 1 << BIT["CAP_SYS_ADMIN"] | 1 << BIT["CAP_BPF"]
_MOUNTING = {"mount", "fsmount"}
_USERS = ("passwd", "group")
_OPAQUE = "trusted.overlay.opaque"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Kept:
    """A recipe, as its starts need it."""

    def __init__(self, number: int, planned: Planned, message: Message, image: Bundle) -> None:
        self.number = number
        self.planned = planned
        self.image = image
        self.bundle: str = message["bundle"]
        self.template = message.get("template")
        self.disk_bytes: int = message.get("disk_bytes", 0)
        self.kind = marshal.dumps(dict(planned.resources), 2).hex()
        self.trusted = _leaves_networks_alone(planned)
        self.keeps_limits = _leaves_limits_alone(planned, image)
        self.execs: dict[bytes, Later] = {}
        self.live = 0  # sandboxes
        self.dropped = False
        process = image.config.get("process", {})
        self.home = planned.recipe.process.who.home
        self._env = dict(text.partition("=")[::2] for text in process.get("env", ()))
        self._name = planned.recipe.container.hostname
        self._is_named = self._env.get("HOSTNAME") == self._name

    def make_writable(self) -> Writable:
        """Make the tmpfs that one of its sandboxes writes to. OSError."""
        return Writable.make(self.planned.recipe.layers, size_bytes=self.disk_bytes)

    def environment(self, more: Sequence[str], name: str, home: str) -> tuple[bytes, ...]:
        """Return the variables in a sandbox called *name*, with *more* before the recipe's."""
        env = {**self._env, "HOSTNAME": name} if self._is_named else {**self._env}
        env.update(text.partition("=")[::2] for text in more)
        env["HOME"] = env.get("HOME") or home  # Podman, for one, writes an empty one
        return tuple(os.fsencode(f"{name}={value}") for name, value in env.items())


def _leaves_networks_alone(planned: Planned) -> bool:
    """Whether no program started by it can change anything of its network namespace."""
    recipe = planned.recipe
    powerful = recipe.process.plan.capabilities.bounding & _POWERFUL
    return not powerful and "/proc/sys" in recipe.readonly


def _leaves_limits_alone(planned: Planned, image: Bundle) -> bool:
    """Whether no program started by it can change its cgroup, nor in user namespaces of its own.

    In those it has every capability, so that it cannot mount is its seccomp policy's doing.
    """
    policy = image.config.get("linux", {}).get("seccomp")
    if policy is None or policy["defaultAction"] != "SCMP_ACT_ERRNO":
        return False
    rules = (rule for rule in policy.get("syscalls", ()) if rule["action"] != "SCMP_ACT_ERRNO")
    allowed = {name for rule in rules for name in rule["names"]}
    powerful = planned.recipe.process.plan.capabilities.bounding & _ABOVE_LIMITS
    return not powerful and not allowed & _MOUNTING


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class Later(NamedTuple):
    """How processes of one kind are started later: their recipe, and their user's home."""

    number: int
    home: str


class Spawn:
    """What a sandbox holds of ours while it is there."""

    def __init__(self, recipe: Kept) -> None:
        self.recipe = recipe
        self.let_go: Callable[[], None] = lambda: None  # gives all back after its end
        self.group: Group | None = None
        self.network: Network | None = None
        self.borrowed: list[int] = []  # a network of the engine's, and its sysfs
        self.writable: Writable | None = None
        self.pids_fd = -1
        self.meta: Any = None
        self.exec_group = ""  # of a later process, and what that has entered
        self.entered: Cgroup | None = None
        self.oom_before = 0  # its sandbox's oom_kills(), before it
        self.streams: list[int] = []
        self.times = OFF
        self.since = 0

    def started(self, made: Made) -> dict[str, Any]:
        """Return what is answered to who has started it, with the steps if he asked for them."""
        answer: dict[str, Any] = {"pid": made.pid, "time_ns": time.time_ns()}
        if self.times is not OFF:
            self.times.note("launcher", self.since)
            self.times.add(made.steps)
            answer["steps"] = self.times.steps
        return answer

    def has_own_users(self) -> bool:
        """Whether the image's files no longer say who is who: it has written some of its own."""
        assert self.writable is not None
        try:
            etc = os.open("upper-0/etc", _FOLDER, dir_fd=self.writable.fd)
        except FileNotFoundError:
            return False
        except OSError:  # removed, or a link
            return True
        try:
            return _OPAQUE in os.listxattr(etc) or any(_is_there(etc, name) for name in _USERS)
        finally:
            os.close(etc)

    def told(self) -> dict[str, Any]:
        """Return what "list" tells an engine that does not know it."""
        path = self.group.cgroup.path if self.group is not None else ""
        return {"meta": self.meta, "template": self.recipe.template, "cgroup": path}


def start_order(
    spawn: Spawn, kept: Kept, message: Message, command: Command
) -> tuple[Start, list[int]]:
    """Return how a launcher is told of a start, and the descriptors that go along."""
    group, writable = spawn.group, spawn.writable
    assert group is not None
    assert writable is not None
    network = spawn.network
    net, system = (network.fd, network.system) if network else spawn.borrowed
    overlays = range(len(writable.uppers))
    slots = [*(f"upper-{place}" for place in overlays), *(f"work-{place}" for place in overlays)]
    order = Start(
        recipe=kept.number,
        command=command,
        idle=not command.args,
        name=os.fsencode(message["name"]),
        slots=("network", "system", "cgroups", "layer", *slots),
        doors=len(group.doors),
        cgroup=group.folder >= 0,
        timed=spawn.times is not OFF,
        files={path: os.fsencode(text) for path, text in message.get("files", {}).items()},
    )
    fds = [*spawn.streams, net, system, group.view, writable.fd, *writable.uppers]
    fds += [*writable.works, *group.doors]
    return order, [*fds, group.folder] if group.folder >= 0 else fds
