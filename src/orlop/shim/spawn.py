"""What sandboxes hold in the shim: a recipe for all that were started by it, and each its own."""

from __future__ import annotations

import marshal
import os
import time
from collections.abc import Sequence
from typing import Any

from orlop.kernel.capabilities import BIT
from orlop.model.oci import Config
from orlop.model.timeline import OFF, Step
from orlop.runtime.cgroups import Cgroup
from orlop.runtime.cgroups.recycled import Group
from orlop.runtime.networks import Network
from orlop.runtime.recipe.plan import Planned
from orlop.runtime.recipe.writable import Writable
from orlop.shim.channel import Message
from orlop.shim.launcher import Made

_NET_ADMIN = 1 << BIT["CAP_NET_ADMIN"]


class Kept:
    """A recipe, as its starts need it."""

    def __init__(self, number: int, planned: Planned, message: Message, config: Config) -> None:
        self.number = number
        self.planned = planned
        self.config = config
        self.bundle: str = message["bundle"]
        self.template = message.get("template")
        self.disk_bytes: int = message.get("disk_bytes", 0)
        self.kind = marshal.dumps(dict(planned.resources), 2).hex()
        capabilities = planned.recipe.process.plan.capabilities
        self.trusted = not capabilities.bounding & _NET_ADMIN
        self.ready: list[Writable] = []
        self.execs: dict[bytes, int] = {}  # recipes of its later processes
        self.live = 0  # sandboxes
        self.dropped = False
        process = config.get("process", {})
        self._env = _environment(process.get("env", ()), planned.recipe.process.who.home)
        self._name = planned.recipe.container.hostname
        self._is_named = self._env.get("HOSTNAME") == self._name

    def environment(self, more: Sequence[str], name: str) -> tuple[bytes, ...]:
        """Return the variables in a sandbox called *name*, with *more* before the recipe's."""
        own = self._env
        if self._is_named:
            own = {**own, "HOSTNAME": name}
        if more:
            own = {**own, **dict(text.partition("=")[::2] for text in more)}
        return tuple(os.fsencode(f"{name}={value}") for name, value in own.items())


def _environment(texts: Sequence[str], home: str) -> dict[str, str]:
    """Return the variables; Podman, for one, writes an empty HOME."""
    env = dict(text.partition("=")[::2] for text in texts)
    env["HOME"] = env.get("HOME") or home
    return env


class Spawn:
    """What a sandbox holds of ours while it is there."""

    def __init__(self, recipe: Kept) -> None:
        self.recipe = recipe
        self.group: Group | None = None
        self.network: Network | None = None
        self.borrowed: list[int] = []  # a network of the engine's, and its sysfs
        self.writable: Writable | None = None
        self.pids_fd = -1
        self.meta: Any = None
        self.exec_group = ""  # of a later process, and what that has entered
        self.entered: Cgroup | None = None
        self.streams: list[int] = []
        self.times = OFF
        self.since = 0

    def started(self, made: Made) -> dict[str, Any]:
        """Return what is answered to who has started it, with the steps if he asked for them."""
        answer: dict[str, Any] = {"pid": made.pid, "time_ns": time.time_ns()}
        if self.times is not OFF:
            self.times.note("launcher", self.since)
            self.times.add(Step(name, "child", begin, end) for name, begin, end in made.steps)
            answer["steps"] = self.times.steps
        return answer

    def told(self) -> dict[str, Any]:
        """Return what "list" tells an engine that does not know it."""
        path = self.group.cgroup.path if self.group is not None else ""
        return {"meta": self.meta, "template": self.recipe.template, "cgroup": path}
