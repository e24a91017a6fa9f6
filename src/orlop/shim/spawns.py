"""Sandboxes: containers and processes that are started by recipes.

Nothing of them is written down. They have the streams that their client has sent, so no
pumps; their cgroups and networks come from those before them; and they end with the shim.
In all other ways they are processes of the server's, like those of containers.
"""

from __future__ import annotations

import fcntl
import os
import resource
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from orlop.errors import (
    ExhaustedError,
    InvalidArgumentError,
    NotRunningError,
    UnavailableError,
    UnsupportedError,
)
from orlop.kernel.process import pidfd_open
from orlop.model.pool import ObjectPool
from orlop.model.timeline import OFF, Recorder
from orlop.runtime import failure, networks
from orlop.runtime.cgroups import Cgroup
from orlop.runtime.cgroups import group as groups
from orlop.runtime.cgroups.pools import RecycledCgroups
from orlop.runtime.cgroups.reusable import Group
from orlop.runtime.recipe.writable import Writable
from orlop.shim.channel import Channel, Message
from orlop.shim.launcher import Command, Exec, Made
from orlop.shim.launchers import Launchers
from orlop.shim.loop import Loop
from orlop.shim.process import Process
from orlop.shim.protocol import IO
from orlop.shim.recipes import Recipes
from orlop.shim.records import Record
from orlop.shim.spawn import Kept, Spawn, start_order
from orlop.shim.usage import periods, usage_of_group

_SIGKILL = 9
_AGAIN_S = 0.002
_MOST_PAUSE_S = 0.5
_POOL_AHEAD = 2
_MOST_WRITABLES = 256
_SHELVE_S = 1.0
_MOST_OPEN = 256  # sandboxes whose cgroups are kept open: some 20 descriptors each
_MOST_POOLED = 128  # cgroups, that are kept open as well
_OF_LIMIT = 160  # descriptors that there may be for each of those
_NO_IO: IO = {"terminal": False, "stdin": False, "stdin_once": False}

#: Is told what to answer to a request: (ok, error).
Answer = Callable[[Any, Exception | None], None]


class Spawns:
    """*watch* is called with each process that runs."""

    def __init__(
        self, loop: Loop, processes: dict[str, Process], *, watch: Callable[[Process], None]
    ) -> None:
        self._loop = loop
        self._processes = processes
        self._watch = watch
        self.launchers = Launchers(loop)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_fds = (limit - max(limit // 8, 200), limit - max(limit // 16, 100))
        self._most_open = min(_MOST_OPEN, 2 * limit // _OF_LIMIT)
        self.cgroups = RecycledCgroups(size=min(_MOST_POOLED, limit // _OF_LIMIT))
        self.networks = networks.pool(ahead=_POOL_AHEAD)
        self.layers = ObjectPool(end=Writable.close, size=_MOST_WRITABLES, ahead=_POOL_AHEAD)
        self.recipes = Recipes(self.launchers)
        self._live = 0

    def learn(self, message: Message) -> None:
        """Op "recipe": get ready for starts by it."""
        kept = self.recipes.learn(message)
        self.layers.want(kept, kept.make_writable)

    def operations(self) -> dict[str, Callable[[Channel, Message], Any]]:
        """Return what answers each request of one line, by its name."""
        return {
            "drop_recipe": lambda _channel, message: self.drop(message),
            "change": lambda _channel, message: self.change(message),
            "usage": lambda _channel, message: self.usage(message),
            "kill_exec": lambda _channel, message: self.kill(message),
        }

    def drop(self, message: Message) -> None:
        """Op "drop_recipe": forget it, or without "id" all; what was started by it runs on."""
        for kept in self.recipes.drop(message):
            self.layers.forget(kept)
            left = self.recipes.all()
            if all(other.kind != kept.kind for other in left):
                self.cgroups.pool.forget(kept.kind)
            if all(other.planned.sysctls != kept.planned.sysctls for other in left):
                self.networks.forget(kept.planned.sysctls)

    # Starts

    def start(self, key: str, message: Message, answer: Answer) -> None:
        """Op "spawn": start a sandbox by a recipe. Raises, or calls *answer* later."""
        kept = self.recipes.get(message["recipe"])
        spawn = Spawn(kept)
        spawn.meta = message.get("meta")
        spawn.times = Recorder("shim") if message.get("timed") else OFF
        spawn.since = spawn.times.now()
        try:
            command = self._take_streams(spawn, message, kept.home)
            self._take_pools(spawn, kept, message)
            order, fds = start_order(spawn, kept, message, command)
            spawn.since = spawn.times.note("take_pools", spawn.since)
            self.launchers.order(
                order, fds, lambda made: self._made(key, spawn, made, answer), held=True
            )
        except BaseException:
            self._give_back(spawn)
            raise

    def _take_streams(self, spawn: Spawn, message: Message, home: str) -> Command:
        """Take the client's streams, or make some that lead nowhere."""
        fds: list[int] = message["fds"]
        spawn.streams = [fds.pop(0) for _ in range(3)] if message.get("streams") else []
        if not spawn.streams:
            reader, writer = os.pipe()
            spawn.streams = [reader, writer, os.dup(writer)]
        most = self._most_fds["exec_id" in message]
        if max(spawn.streams) > most:  # theirs are the lowest numbers that are free
            raise ExhaustedError(f"the shim holds {most} descriptors", hint="close some sandboxes")
        owned = []
        for fd in spawn.streams:
            status = os.fstat(fd)
            is_stream = stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)
            if not is_stream or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH:
                raise InvalidArgumentError("a sandbox's streams are pipes or sockets")
            owned.append(stat.S_ISFIFO(status.st_mode) and status.st_dev == _pipes_device())
        return Command(
            tuple(os.fsencode(text) for text in message.get("args", ())),
            spawn.recipe.environment(message.get("env", ()), message["name"], home),
            os.fsencode(message["folder"]),
            (owned[0], owned[1], owned[2]),
        )

    def _take_pools(self, spawn: Spawn, kept: Kept, message: Message) -> None:
        layers = kept.planned.recipe.layers
        if message.get("written"):
            spawn.writable = Writable(message["fds"].pop(0), overlays=len(layers))
        if count := message.get("network", 0):  # with its sysfs, or without
            fds = message["fds"]
            spawn.borrowed = [fds.pop(0) for _ in range(count)]
            if count == 1:
                spawn.borrowed.append(networks.sysfs_of(spawn.borrowed[0], kept.planned.sysctls))
        else:
            sysctls = kept.planned.sysctls
            spawn.network = self.networks.get(sysctls, partial(networks.Network, sysctls))
        spawn.group = self.cgroups.take(kept.kind, kept.planned.resources)
        spawn.group.changed = not kept.keeps_limits
        if spawn.writable is None:
            spawn.writable = self.layers.get(kept, kept.make_writable)

    def _made(self, key: str, spawn: Spawn, made: Made | None, answer: Answer) -> None:
        _close(spawn.streams)
        if made is None or made.report:
            error = _error(made, "cannot start the sandbox", spawn.group)
            self._undo(spawn, made)
            answer(None, error)
            return
        assert spawn.group is not None
        assert spawn.writable is not None
        spawn.writable.started()
        if spawn.borrowed:  # the namespaces are the process's now
            _close(spawn.borrowed)
        process = _process(key, made.pid, spawn, spawn.recipe.bundle)
        process.cgroup = spawn.group.cgroup
        self._processes[key] = process
        spawn.let_go = partial(self._let_go, process)
        self._watch(process)
        spawn.recipe.live += 1
        self._live += 1
        if self._live > self._most_open:
            self._loop.later(_SHELVE_S, lambda: self._shelve(process))
        answer({**spawn.started(made), "cgroup": spawn.group.cgroup.path}, None)

    def _shelve(self, process: Process) -> None:
        """Close what is kept open of a sandbox that is there yet; soon gone ones need it."""
        spawn = process.spawn
        if self._processes.get(process.key) is process and spawn and spawn.group:
            spawn.group.shelve()

    def _undo(self, spawn: Spawn, made: Made | None) -> None:
        if made is not None and made.pid:
            _reap(made.pid)
        self._give_back(spawn)

    def _give_back(self, spawn: Spawn, pause_s: float = _AGAIN_S) -> None:
        """Let go of all, the cgroup and then the network once nobody is in them."""
        _close(spawn.streams)
        _close(spawn.borrowed)
        if spawn.pids_fd >= 0:
            os.close(spawn.pids_fd)
            spawn.pids_fd = -1
        if spawn.writable is not None:
            spawn.writable.close()
            spawn.writable = None
        group = spawn.group
        if group is not None and not self.cgroups.give_back(spawn.recipe.kind, group):
            group.cgroup.kill(_SIGKILL)
            group.changed = True  # Linux 6.18 for one goes on to kill who is born in it
            longer = min(2 * pause_s, _MOST_PAUSE_S)
            self._loop.later(pause_s, lambda: self._give_back(spawn, longer))
            return
        spawn.group = None
        if spawn.network is not None:  # nobody is in it any more
            kind, trusted = spawn.network.sysctls, spawn.recipe.trusted
            self.networks.give_back(spawn.network, kind, reusable=trusted)
            spawn.network = None

    # Later processes

    def execute(self, key: str, message: Message, answer: Answer) -> None:
        """Op "spawn_exec": start another process in a sandbox."""
        container = self._processes.get(message["id"])
        if container is None or container.spawn is None or not container.running:
            raise NotRunningError(f"sandbox {message['id']} is not running")
        of = container.spawn
        assert of.group is not None
        spawn = Spawn(of.recipe)
        spawn.times = Recorder("shim") if message.get("timed") else OFF
        spawn.since = spawn.times.now()
        try:
            later = self.recipes.later(of, message)
            command = self._take_streams(spawn, message, later.home)
            if of.pids_fd < 0:
                path = f"/proc/{container.record['pid']}/ns/pid"
                of.pids_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            spawn.exec_group = message["group"]
            spawn.entered = groups.make(of.group.cgroup, spawn.exec_group)
            of.group.open()
            spawn.oom_before = container.oom_kills()
            doors, folder = of.group.doors, _folder(spawn.entered)
            try:
                timed = spawn.times is not OFF
                order = Exec(later.number, command, len(doors), cgroup=True, timed=timed)
                spawn.since = spawn.times.note("prepare", spawn.since)
                fds = [*spawn.streams, container.pidfd, of.pids_fd, *doors, folder]
                self.launchers.order(
                    order, fds, lambda made: self._executed(key, container, spawn, made, answer)
                )
            finally:
                os.close(folder)
        except BaseException:
            _close(spawn.streams)
            self._leave_group(container, spawn)
            raise

    def _executed(
        self, key: str, container: Process, spawn: Spawn, made: Made | None, answer: Answer
    ) -> None:
        _close(spawn.streams)
        if made is None or made.report:
            if made is not None and made.pid:
                _reap(made.pid)
            elif container.cgroup is not None:  # what its launcher has made, if anything
                groups.kill(container.cgroup, spawn.exec_group)
            self._leave_group(container, spawn)
            group = container.spawn.group if container.spawn is not None else None
            what = f"cannot run a command in sandbox {container.key[:12]}"
            answer(None, _error(made, what, group))
            return
        process = _process(key, made.pid, spawn, spawn.recipe.bundle)
        process.record["exec_id"] = key.partition("/")[2]
        process.cgroup = spawn.entered
        process.oom_before = spawn.oom_before
        self._processes[key] = process
        spawn.let_go = partial(self._let_go, process)
        self._watch(process)
        answer(spawn.started(made), None)

    def _leave_group(self, container: Process, spawn: Spawn) -> None:
        if spawn.exec_group and container.cgroup is not None:
            groups.remove(container.cgroup, spawn.exec_group)

    def kill(self, message: Message) -> None:
        """Op "kill_exec": kill a process with all that it has started, though it has ended."""
        container = self._processes.get(message["id"])
        if container is None or container.cgroup is None:
            return  # it went with its sandbox
        groups.kill(container.cgroup, message["group"])
        groups.remove(container.cgroup, message["group"])

    def usage(self, message: Message) -> list[int]:
        """Op "usage": return what a sandbox has used, and how many periods of its quota.

        Its cgroup has been others' before.
        """
        container = self._processes.get(message["id"])
        if container is None or container.spawn is None:
            raise NotRunningError(f"sandbox {message['id']} is not running")
        group = container.spawn.group
        return [*usage_of_group(group), periods(group)]

    def lend(self, message: Message) -> tuple[list[str], int]:
        """Op "lend": return the destinations of a sandbox's overlays, and where it writes to."""
        container = self._processes.get(message["id"])
        if container is None or container.spawn is None or container.spawn.writable is None:
            raise NotRunningError(f"sandbox {message['id']} is not running")
        spawn = container.spawn
        assert spawn.writable is not None
        layers = spawn.recipe.planned.recipe.layers
        return [layer.destination for layer in layers], spawn.writable.fd

    def change(self, message: Message) -> None:
        """Op "change": the limits of a sandbox are about to be other than its recipe's."""
        container = self._processes.get(message["id"])
        if container is not None and container.spawn is not None and container.spawn.group:
            container.spawn.group.changed = True

    # Ends

    def _let_go(self, process: Process) -> None:
        """Give back what a process held that is no more."""
        spawn = process.spawn
        assert spawn is not None
        if process.is_init:
            spawn.recipe.live -= 1
            self._live -= 1
            self._give_back(spawn)
            self.recipes.settle(spawn.recipe)
        elif (container := self._processes.get(process.record["id"])) is not None:
            self._leave_group(container, spawn)

    # Ahead

    def refill(self) -> bool:
        """Make one thing ahead; return whether more is to do."""
        if self.layers.refill():
            return True
        try:
            is_more = self.launchers.prepare()
        except OSError:  # a start that finds no launcher reports what is wrong
            return False
        return is_more or self.networks.refill()

    def close(self) -> None:
        """Give everything back."""
        self.launchers.close()
        self.layers.close()
        self.cgroups.pool.close()
        self.networks.close()


def _folder(cgroup: Cgroup) -> int:
    """Open the folder that a child is to be born in."""
    folder = cgroup.clone_fd()
    if folder is None:
        raise UnsupportedError("a sandbox's commands need a v2 hierarchy")
    return folder


def _process(key: str, pid: int, spawn: Spawn, bundle: str) -> Process:
    record = Record(
        id=key.partition("/")[0],
        pid=pid,
        start_ticks=0,
        bundle=bundle,
        cgroup="",
        io=_NO_IO,
        inodes={},
    )
    process = Process(key, record)
    process.spawn = spawn
    process.pidfd = pidfd_open(pid)
    return process


def _error(made: Made | None, what: str, group: Group | None) -> Exception:
    """Return what to answer; what only the usual way can explain is left to it."""
    if made is None:
        if group is not None and group.usage().oom_kills:  # it shares the child's memory
            return ExhaustedError(
                f"{what}: its memory is used up", hint="remove files, or ask more"
            )
        return UnavailableError(f"{what}: its launcher was killed", hint="try again")
    error = failure.decode(what, made.report)
    return error if made.is_commands else UnsupportedError(str(error))


def _reap(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, _SIGKILL)
        os.waitpid(pid, 0)


def _pipes_device() -> int:
    if not _device:
        reader, writer = os.pipe()
        _device.append(os.fstat(reader).st_dev)
        os.close(reader)
        os.close(writer)
    return _device[0]


_device: list[int] = []


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
