"""A launcher: a process that makes others by recipes, one after the other.

It is the shim's child, and what it makes is the shim's as well (CLONE_PARENT). While it
makes one it cannot be spoken to, for the child has its memory; the shim goes on. Should it
be killed, by the kernel for want of memory in a child's cgroup or by the shim since a child
does not come to its end, only that one start is lost.

Its mount namespace has nothing in it but an empty root, so that a child has nothing to copy,
and nothing of the host to reach.
"""

from __future__ import annotations

import _pickle
import ctypes
import errno
import fcntl
import gc
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from orlop.kernel.idle import open_idle_program
from orlop.kernel.mount import MountAttr, MountFlag, Unmount, mount, move_mount, pivot_root, umount
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.kernel.procedure import Failure, Strings
from orlop.kernel.process import set_dumpable, set_name, set_parent_death_signal
from orlop.model.timeline import Step
from orlop.runtime import failure
from orlop.runtime.failure import StepError
from orlop.runtime.filesystems import filesystem
from orlop.runtime.noting import steps_of_child
from orlop.runtime.options import Options
from orlop.runtime.program import places_of
from orlop.runtime.recipe import table
from orlop.runtime.recipe.process import MOST_PROGRAMS, RUN_PROGRAM, explain, may_look
from orlop.runtime.recipe.recipe import ProcessRecipe, Recipe
from orlop.runtime.recipe.writer import Writer

MOST_BYTES = 1 << 20
MOST_FDS = 250
_NEW = Namespace.MOUNT | Namespace.PID | Namespace.IPC | Namespace.UTS
_NO_FD = 0xFFFFFFFF
_SEALED = int(MountAttr.RDONLY | MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC)
_CUT_SHORT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_ABOVE = 10  # descriptors that stay: the first ones are the children's


class Learn(NamedTuple):
    """Know a recipe from now on; its descriptors come along."""

    number: int
    recipe: Recipe | ProcessRecipe


class Forget(NamedTuple):
    number: int


class Command(NamedTuple):
    """What is run. *owned*: which streams may be given to the user."""

    args: tuple[bytes, ...]
    env: tuple[bytes, ...]
    folder: bytes
    owned: tuple[bool, bool, bool]


class Start(NamedTuple):
    """Make a container; without a command its first process does nothing.

    Descriptors: stdin, stdout, stderr, those of the *slots*, *doors* doors, and the cgroup's
    folder if there is one.
    """

    recipe: int
    command: Command
    idle: bool
    name: bytes
    slots: tuple[str, ...]
    doors: int
    cgroup: bool
    files: dict[str, bytes]  # contents in the place of the recipe's
    keyring: bytes = b""
    timed: bool = False


class Exec(NamedTuple):
    """Make a later process. Descriptors: stdin, stdout, stderr, the first process's pidfd and
    pid namespace, *doors* doors, and the cgroup's folder if there is one."""

    recipe: int
    command: Command
    doors: int
    cgroup: bool
    timed: bool = False


class Made(NamedTuple):
    """What became of an order. Without a *report* (runtime/failure.py) the program runs."""

    pid: int  # 0: there was no child
    report: bytes
    is_commands: bool  # the failure is that of the command, not of us
    steps: Sequence[Step] = ()  # the child's, of one that is timed


def serve(orders: int, made: ctypes.c_int) -> NoReturn:
    """Carry out orders until the shim is gone; *made* has the pid of what is being made."""
    try:
        _settle_down(orders)
        channel = socket.socket(fileno=_raised(orders))
        launcher = Launcher(made)
        while True:
            data, fds, flags, _ = socket.recv_fds(channel, MOST_BYTES, MOST_FDS)
            if not data or flags & _CUT_SHORT:  # no room for its descriptors
                break
            answer = launcher.obey(_pickle.loads(data), fds)
            if answer is not None:
                channel.send(_pickle.dumps(answer, 5))
    finally:
        os._exit(1)


class Launcher:
    """The recipes that it knows, and the procedures that were written for them."""

    def __init__(self, made: ctypes.c_int) -> None:
        self._made = made
        self._recipes: dict[int, tuple[Recipe | ProcessRecipe, list[int]]] = {}
        self._written: dict[tuple[int, bool, int, bool], Writer] = {}
        self._idle = _raised(open_idle_program())
        self._pids = _raised(os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC))
        _leave_the_host()

    def obey(self, order: object, fds: list[int]) -> Made | None:
        """Carry out one order; None where it is not answered. Closes *fds* or keeps them."""
        if isinstance(order, Learn):
            self._recipes[order.number] = (order.recipe, [_raised(fd) for fd in fds])
            return None
        try:
            if isinstance(order, Forget):
                self._forget(order.number)
                return None
            try:
                return self._make(order, fds)
            except Exception as error:
                return Made(0, failure.encode("make_process", error), is_commands=False)
        finally:
            for fd in fds:
                os.close(fd)

    def _make(self, order: object, fds: list[int]) -> Made:
        if isinstance(order, Start):
            return self._start(order, fds)
        assert isinstance(order, Exec)
        return self._exec(order, fds)

    def _forget(self, number: int) -> None:
        _, fds = self._recipes.pop(number, (None, []))
        for fd in fds:
            os.close(fd)
        for key in [key for key in self._written if key[0] == number]:
            del self._written[key]

    def _start(self, order: Start, fds: Sequence[int]) -> Made:
        recipe, kept = self._recipes[order.recipe]
        assert isinstance(recipe, Recipe)
        key = (order.recipe, order.idle, order.doors, order.timed)
        writer = self._written.get(key)
        if writer is None:
            writer = table.write(
                recipe, kept, doors=order.doors, idle=order.idle, timed=order.timed
            )
            self._written[key] = writer
        fill = writer.procedure.fill
        rest = iter(fds[3:])
        for slot in order.slots:
            fill(slot, next(rest))
        for place in range(order.doors):
            fill(f"door-{place}", next(rest))
        fill("idle", self._idle)
        texts = [order.name, order.keyring, b"" if order.command.owned[0] else b"/dev/null"]
        before = os.fsencode(recipe.container.hostname)
        for path, content in recipe.files.items():
            given = order.files.get(path)
            named = os.fsencode(content).replace(before, order.name)
            texts.append(named if given is None else given)
        place_of = _Places(texts)
        fill("name", place_of[0])
        fill("name-size", len(order.name))
        fill("keyring", place_of[1])
        fill("null", place_of[2])
        for place, text in enumerate(texts[3:]):
            fill(f"file-{place}", place_of[place + 3])
            fill(f"file-{place}-size", len(text))
        folder = fds[-1] if order.cgroup else -1
        return self._run(writer, order.command, fds, int(_NEW), folder)

    def _exec(self, order: Exec, fds: Sequence[int]) -> Made:
        recipe, _ = self._recipes[order.recipe]
        assert isinstance(recipe, ProcessRecipe)
        key = (order.recipe, False, order.doors, order.timed)
        writer = self._written.get(key)
        if writer is None:
            writer = table.write(recipe, doors=order.doors, timed=order.timed)
            self._written[key] = writer
        writer.procedure.fill("target", fds[3])
        for place in range(order.doors):
            writer.procedure.fill(f"door-{place}", fds[5 + place])
        setns(fds[4], Namespace.PID)
        try:
            return self._run(writer, order.command, fds, 0, fds[-1] if order.cgroup else -1)
        finally:
            setns(self._pids, Namespace.PID)

    def _run(
        self, writer: Writer, command: Command, fds: Sequence[int], flags: int, cgroup: int
    ) -> Made:
        procedure = writer.procedure
        for place, slot in enumerate(("stdin", "stdout", "stderr")):
            procedure.fill(slot, fds[place])
            procedure.fill(f"pipe-{place}", place if command.owned[place] else _NO_FD)
        args, env = Strings(command.args), Strings(command.env)
        procedure.fill("arguments", args.address)
        procedure.fill("environment", env.address)
        environment = [os.fsdecode(text) for text in command.env]
        tried = places_of(os.fsdecode(command.args[0]), environment) if command.args else []
        texts = [command.folder, *(os.fsencode(path) for path in tried[:MOST_PROGRAMS]), b""]
        place_of = _Places(texts)
        procedure.fill("folder", place_of[0])
        for place in range(MOST_PROGRAMS):
            procedure.fill(f"program-{place}", place_of[min(place + 1, len(texts) - 1)])
        pid = procedure.run(flags, cgroup_fd=cgroup, pid=self._made)
        failed = procedure.failure()
        if failed is None:
            return Made(
                pid,
                b"",
                is_commands=False,
                steps=steps_of_child(writer.begun(), time.monotonic_ns()),
            )
        return _told(writer, pid, failed, tried)


class _Places:
    """Where texts are in memory, as long as this lives."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._buffers = [ctypes.create_string_buffer(text, len(text) + 1) for text in texts]

    def __getitem__(self, index: int) -> int:
        return ctypes.addressof(self._buffers[index])


def _told(writer: Writer, pid: int, failed: Failure, tried: Sequence[str]) -> Made:
    step = writer.step_of(failed.call)
    if step == RUN_PROGRAM and tried and len(tried) <= MOST_PROGRAMS:
        said = explain(writer, tried)
        return Made(pid, failure.encode(step, said), is_commands=may_look(writer))
    error = StepError(os.strerror(failed.errno), number=failed.errno or errno.EINVAL)
    return Made(pid, failure.encode(step, error), is_commands=False)


def _raised(fd: int) -> int:
    """Return *fd* under a higher number."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    os.close(fd)
    return moved


def _settle_down(orders: int) -> None:
    gc.disable()
    gc.collect()
    gc.freeze()
    set_parent_death_signal(signal.SIGKILL)
    set_name("orlop-launcher")
    set_dumpable(dumpable=False)
    os.closerange(3, orders)
    os.closerange(orders + 1, 1 << 20)
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    os.umask(0)


def _leave_the_host() -> None:
    """Be in a mount namespace with an empty root, which nobody can write to."""
    unshare(Namespace.MOUNT)
    mount("", "/", flags=int(MountFlag.REC | MountFlag.PRIVATE))
    words = (("size", "4k"), ("mode", "555"), ("ro", None))
    empty = filesystem("tmpfs", "", Options(set_=_SEALED, filesystem=words))
    host = os.open("/", os.O_PATH | os.O_CLOEXEC)
    move_mount(empty, host)
    os.close(host)
    os.fchdir(empty)
    pivot_root(".", ".")
    umount(".", Unmount.DETACH)
    os.chdir("/")
    os.close(empty)
