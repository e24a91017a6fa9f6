"""From a request to a process whose steps run: the record, the pipes, and who makes it.

A Python child makes whatever there is; a launcher makes containers that have a recipe:

    shim                         launcher                      child
      | Start ---------------------->| clone3 -------------------->|
      |<---------------------------------------------- "b", report | shield
      | the record, a copy for the stdio process                   | root, mounts, user, …
      | WITNESSED ------------------------------------------------>| release_signals
      |<------------------- Made ----|<----------------- execve ---|

Where a launcher fails, a Python child makes it once more, or says what is wrong.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import cast

from orlop.criu.clocks import has_own_clocks
from orlop.errors import (
    InvalidArgumentError,
    NotRunningError,
    OrlopError,
    UnavailableError,
    UnsupportedError,
)
from orlop.kernel.process import pidfd_open
from orlop.model.mount import Mount
from orlop.model.oci import Config, Namespace
from orlop.model.oci import Process as OCIProcess
from orlop.model.timeline import OFF, Recorder
from orlop.runtime import failure
from orlop.runtime import start as runtime
from orlop.runtime.ahead import Ahead
from orlop.runtime.bundle import WITNESSED, Bundle, Manner, Starting, Stdio, Target
from orlop.runtime.execute import execute
from orlop.runtime.noting import take_notes
from orlop.runtime.parent import LATE, has_executed
from orlop.runtime.start import make_cgroup
from orlop.shim.by_recipe import ContainerRecipes, Given
from orlop.shim.channel import Message
from orlop.shim.config import read_config
from orlop.shim.launcher import Made
from orlop.shim.layers import Layers
from orlop.shim.pipes import Pipes
from orlop.shim.process import Process
from orlop.shim.pumps import Pumps
from orlop.shim.records import Record, Records, start_ticks
from orlop.shim.spawns import Spawns

_MOST_CONFIGS = 16
_SIGKILL = 9


class Starts:
    """Starts containers and processes in them, noting each before it exists."""

    def __init__(
        self,
        records: Records,
        processes: dict[str, Process],
        pumps: Pumps,
        *,
        spawns: Spawns,
        made: Callable[[Process, Made | None], None],
    ) -> None:
        """*made* is called with each process that a launcher has made, or has not.

        The launchers and the networks made ahead are those of *spawns*.
        """
        self._launchers = spawns.launchers
        self._recipes = ContainerRecipes(spawns.launchers, spawns.networks)
        self._made = made
        self._records = records
        self._pumps = pumps
        self._processes = processes
        self.layers = Layers()
        self.ahead = Ahead()
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._configs: dict[tuple[str, int], Config] = {}  # of running containers, for execs
        self._shared: set[int] | None = None  # pid namespaces, by inode, that were joined

    def begin(self, key: str, message: Message) -> Process:
        """Make the process; settle() or settle_made() tell what became of it.

        Leaves nothing where it raises.
        """
        process = Process(key, _new_record(message))
        times = process.times = Recorder("shim") if message.get("timeline") else OFF
        since = times.now()
        if process.is_init:
            bundle, make = self._bundle(message, process.record, message["fds"]), None
        else:
            bundle, make = None, self._executor(message)
        since = times.note("read_bundle", since)
        self._pumps.take_room(key)
        self._records.begin(key, process.record)
        times.note("write_record", since)
        if "group" in message:
            process.oom_before = self._processes[message["id"]].oom_kills()
        try:
            if make is not None:
                self._make(process, make)
            elif bundle is not None and not self._order(process, bundle, message):
                self._make(process, self._starter(bundle))
        except BaseException:
            self._records.end(key)
            self._pumps.drop(key)
            raise
        finally:
            self.layers.release()
        if process.order is None:
            self._witness(process)
        return process

    # By a launcher

    def _order(self, process: Process, bundle: Bundle, message: Message) -> bool:
        """Have a launcher make it; False, with nothing left, where a Python child is to."""
        known = self._recipes.find(bundle)
        if known is None:
            return False
        with ExitStack() as undo, suppress(OSError, UnsupportedError):
            pipes = Pipes(process.io, null=self.null)
            undo.callback(pipes.close)
            cgroup = make_cgroup(bundle, self.ahead.cgroups)
            undo.callback(cgroup.remove)
            report, born = os.pipe()
            undo.callback(os.close, report)
            witness = os.eventfd(0, os.EFD_CLOEXEC)
            undo.callback(os.close, witness)
            given = Given(pipes.stdio, cgroup, born, witness)
            try:
                order = self._recipes.order(known, bundle, given)
                if order is None:
                    return False
                undo.callback(order.close)
                self._launchers.order(order.start, order.fds, partial(self._made, process))
            finally:
                os.close(born)
            undo.pop_all()
            process.fds, process.record["inodes"] = pipes.ours, pipes.inodes
            pipes.close_theirs()
            order.begun_ns = process.times.now()
            order.take(message["fds"], len(message.get("namespaces", ())))
            process.order, process.cgroup = order, cgroup
            what = f"cannot start container {bundle.id}"
            process.starting = Starting(
                what, 0, -1, report, None, cgroup, owns_cgroup=True, witness=witness
            )
        return process.order is not None

    def born(self, process: Process) -> None:
        """Note what a launcher has made, and let it go on to its program."""
        order, starting = process.order, process.starting
        assert order is not None
        assert starting is not None
        os.read(starting.report, 1)  # a report that is kept is empty, as for adopt()
        pid = self._launchers.pid_of(order.start)
        if not pid:  # it has failed; the launcher's answer is on its way
            return
        process.pidfd = pidfd_open(pid)
        process.starting = starting._replace(pid=pid, pidfd=process.pidfd)
        try:
            self._note(process, process.starting)
        except OSError as error:
            order.refusal = error
        if order.refusal is not None:
            process.signal(_SIGKILL)
            return
        self._witness(process)
        order.is_witnessed = True

    def call_off(self, process: Process) -> None:
        """Have a start by a launcher fail, which takes too long."""
        order, starting = process.order, process.starting
        assert order is not None
        assert starting is not None
        order.refusal = failure.decode(starting.what, LATE)
        if process.pidfd >= 0:
            process.signal(_SIGKILL)

    def settle_made(self, process: Process, made: Made | None) -> bool:
        """Take a launcher's answer; return whether the program runs.

        If not, a Python child makes it once more, or this raises, with nothing left of it.
        """
        order, starting = process.order, process.starting
        assert order is not None
        assert starting is not None
        process.order = None
        with closing(order):
            if made is not None and not made.report and has_executed(starting):
                process.limit.cancel()
                process.starting = None
                os.close(starting.report)
                os.close(starting.witness)
                process.times.note("launcher", order.begun_ns)
                process.times.add(made.steps)
                return True
            self._discard(process, starting, made)
            if made is None and order.is_witnessed:  # the program may have run
                order.refusal = UnavailableError(f"{starting.what}: its launcher was killed")
            if order.refusal is not None:
                process.limit.cancel()
                raise order.refusal
            self._pumps.take_room(process.key)
            try:
                self._make(process, self._starter(order.bundle))
            finally:
                self.layers.release()
            self._witness(process)
        return False

    def _discard(self, process: Process, starting: Starting, made: Made | None) -> None:
        """Leave nothing of what a launcher has begun, but its record."""
        process.close_fds()
        process.starting, process.pidfd = None, -1
        self._pumps.drop(process.key)
        if starting.pidfd < 0 and made is not None and made.pid:
            starting = starting._replace(pid=made.pid, pidfd=pidfd_open(made.pid))
        if starting.pidfd >= 0:
            with suppress(OrlopError):
                runtime.settle(starting, b"?")  # kills, reaps, removes the cgroup
            return
        os.close(starting.report)
        os.close(starting.witness)
        if starting.cgroup is not None:
            starting.cgroup.remove()

    def sweep(self) -> None:
        """Let go of layers that were removed."""
        self.layers.sweep()
        self._recipes.sweep()

    # By a Python child

    def _witness(self, process: Process) -> None:
        """Let its program run, now that somebody else can tell of its end."""
        if process.starting is not None and process.starting.witness >= 0:
            self._pumps.keep(process)
            os.eventfd_write(process.starting.witness, WITNESSED)

    def settle(self, process: Process) -> None:
        """Raise what the report says, with nothing left of the process, or let it run."""
        starting = process.starting
        assert starting is not None
        process.starting = None
        process.limit.cancel()
        if process.times is not OFF:
            steps, process.report = take_notes(process.report, until_ns=process.times.now())
            process.times.add(steps)
        try:
            runtime.settle(starting, process.report)
        except BaseException:
            self._pumps.drop(process.key)
            raise
        process.report = b""
        # Not waited for before: a container can stop the child of an exec on its way.
        terminal = runtime.take_terminal(starting)
        if terminal is not None:
            process.fds = {"terminal": terminal}

    def _make(self, process: Process, make: Callable[[Stdio | None], Starting]) -> None:
        record = process.record
        with ExitStack() as undo:
            stdio = None
            if not process.io["terminal"]:
                pipes = Pipes(process.io, null=self.null)
                undo.callback(pipes.close)
                stdio, record["inodes"] = pipes.stdio, pipes.inodes
            starting = make(stdio)
            undo.pop_all()
        if stdio is not None:
            pipes.close_theirs()
            process.fds = pipes.ours
        os.set_blocking(starting.report, False)
        process.starting = starting
        process.pidfd = starting.pidfd
        process.cgroup = starting.cgroup
        process.times.add(starting.steps)
        try:
            self._note(process, starting)
        except OSError:
            process.pidfd = -1  # settle() closes it
            process.close()
            with suppress(OrlopError):
                runtime.settle(process.starting, b"?")  # kills, reaps, removes the cgroup
            raise

    def _note(self, process: Process, starting: Starting) -> None:
        """Write down a process that has come to be. OSError."""
        since, record = process.times.now(), process.record
        record["pid"] = starting.pid
        record["start_ticks"] = start_ticks(starting.pid)
        if starting.witness >= 0:
            record["witnessed"] = True
        self._records.update(process.key, record)
        process.times.note("write_pid", since)

    def _starter(self, bundle: Bundle) -> Callable[[Stdio | None], Starting]:
        shared = self._with_shared_layers(bundle)
        return lambda stdio: runtime.start(shared, stdio, ahead=self.ahead)

    def bundle(self, message: Message, record: Record, fds: list[int]) -> Bundle:
        """Return what a message asks for, with the namespaces that *fds* are; note its cgroup.

        It is good until the next call: its root may be of descriptors of ours.
        """
        return self._with_shared_layers(self._bundle(message, record, fds))

    def _bundle(self, message: Message, record: Record, fds: list[int]) -> Bundle:
        config = read_config(record["bundle"])
        targets = message.get("mounts", ())
        mounts = tuple(zip(targets, fds[len(fds) - len(targets) :], strict=True))
        if "namespaces" in message:
            _join(config, message["namespaces"], fds[: len(fds) - len(targets)])
        if path := _joined_pids(config):
            record["joined_pids"] = os.stat(path).st_ino
            self._shared = None
        record["cgroup"] = config.get("linux", {}).get("cgroupsPath") or f"/orlop/{record['id']}"
        rootfs = tuple(
            Mount(type_, source, target, tuple(options))
            for type_, source, target, options in message["rootfs"]
        )
        manner = Manner(timed=bool(message.get("timeline")), witnessed=True)
        return Bundle(record["id"], record["bundle"], config, rootfs, manner, mounts)

    def _with_shared_layers(self, bundle: Bundle) -> Bundle:
        if bundle.config.get("linux", {}).get("uidMappings"):  # each is to be id-mapped
            return bundle
        try:
            rootfs = self.layers.share(bundle.rootfs)
        except OSError:
            rootfs = bundle.rootfs  # the runtime says what is wrong with it
        self.layers.name(bundle.config.get("mounts", ()))
        return bundle._replace(rootfs=rootfs)

    def _executor(self, message: Message) -> Callable[[Stdio | None], Starting]:
        container = self._processes.get(message["id"])
        if container is None or not container.running:
            raise NotRunningError(f"container {message['id']} is not running")
        cgroup = container.cgroup
        if cgroup is not None and "group" in message:
            from orlop.runtime.cgroups import group  # for sandboxes alone

            cgroup = group.make(cgroup, message["group"])
        target = Target(
            message["id"],
            container.record["pid"],
            container.pidfd,
            self._config(container),
            cgroup,
            timed=bool(message.get("timeline")),
            shares_pids=self._shares_pids(container),
        )
        wanted = cast("OCIProcess", message["process"])
        return lambda stdio: execute(target, wanted, stdio, ahead=self.ahead)

    def _shares_pids(self, container: Process) -> bool:
        if self._shared is None:
            found = (process.record.get("joined_pids", 0) for process in self._processes.values())
            self._shared = {inode for inode in found if inode}
        path = f"/proc/{container.record['pid']}/ns/pid"
        with suppress(FileNotFoundError):  # it has just ended
            return bool(self._shared) and os.stat(path).st_ino in self._shared
        return False

    def _config(self, container: Process) -> Config:
        """Return the running container's config.json; the last few are kept, decoded."""
        name = (container.record["bundle"], container.record["pid"])
        if name not in self._configs:
            while len(self._configs) >= _MOST_CONFIGS:
                del self._configs[next(iter(self._configs))]
            self._configs[name] = config = read_config(name[0])
            with suppress(FileNotFoundError):  # it has just ended
                if has_own_clocks(name[1]):  # it was restored
                    config["linux"]["namespaces"].append({"type": "time"})
        return self._configs[name]


def _new_record(message: Message) -> Record:
    record = Record(
        id=message["id"],
        pid=0,
        start_ticks=0,
        bundle=message.get("bundle", ""),
        cgroup="",
        io=message["io"],
        inodes={},
    )
    if message["op"] == "exec":
        record["exec_id"] = message["exec_id"]
        if "group" in message:
            record["group"] = message["group"]
    return record


def _join(config: Config, types: list[str], fds: list[int]) -> None:
    """Have *config* join the namespaces that *fds* are, where it asks for new ones."""
    if len(types) != len(fds):
        raise InvalidArgumentError(f"{len(types)} namespaces with {len(fds)} descriptors")
    paths = {type_: f"/proc/self/fd/{fd}" for type_, fd in zip(types, fds, strict=True)}
    linux = config.get("linux", {})
    joined: list[Namespace] = []
    for namespace in linux.get("namespaces", ()):
        path = paths.pop(namespace["type"], "")
        joined.append({**namespace, "path": path} if path else namespace)
    if paths:
        raise InvalidArgumentError(f"config.json asks for no namespace of type {min(paths)}")
    linux["namespaces"] = joined


def _joined_pids(config: Config) -> str:
    namespaces = config.get("linux", {}).get("namespaces", ())
    return next((entry.get("path", "") for entry in namespaces if entry["type"] == "pid"), "")
