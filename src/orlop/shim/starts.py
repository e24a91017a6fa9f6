"""From a request to a process whose steps run: the record, the pipes, the runtime's call."""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import cast

from orlop.criu.clocks import has_own_clocks
from orlop.errors import InvalidArgumentError, NotRunningError, OrlopError
from orlop.model.mount import Mount
from orlop.model.oci import Config, Namespace
from orlop.model.oci import Process as OCIProcess
from orlop.model.timeline import OFF, Recorder
from orlop.runtime import start as runtime
from orlop.runtime.ahead import Ahead
from orlop.runtime.bundle import WITNESSED, Bundle, Manner, Starting, Stdio, Target
from orlop.runtime.execute import execute
from orlop.runtime.noting import take_notes
from orlop.shim.channel import Message
from orlop.shim.layers import Layers
from orlop.shim.process import Pipes, Process
from orlop.shim.pumps import Pumps
from orlop.shim.records import Record, Records, start_ticks

_MOST_CONFIGS = 16


class Starts:
    """Starts containers and processes in them, noting each before it exists."""

    def __init__(self, records: Records, processes: dict[str, Process], pumps: Pumps) -> None:
        self._records = records
        self._pumps = pumps
        self._processes = processes
        self.layers = Layers()
        self.ahead = Ahead()
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._configs: dict[tuple[str, int], Config] = {}  # of running containers, for execs
        self._shared: set[int] | None = None  # pid namespaces, by inode, that were joined

    def begin(self, key: str, message: Message) -> Process:
        """Make the process; settle() tells what became of it. Leaves nothing where it raises."""
        times = Recorder("shim") if message.get("timeline") else OFF
        since = times.now()
        record = Record(
            id=message["id"],
            pid=0,
            start_ticks=0,
            bundle=message.get("bundle", ""),
            cgroup="",
            io=message["io"],
            inodes={},
        )
        if "/" in key:
            record["exec_id"] = message["exec_id"]
            if "group" in message:
                record["group"] = message["group"]
            make = self._executor(message)
        else:
            make = self._starter(message, record)
        since = times.note("read_bundle", since)
        self._pumps.take_room(key)
        self._records.begin(key, record)
        times.note("write_record", since)
        process = Process(key, record)
        process.times = times
        if "group" in message:
            process.oom_before = self._processes[message["id"]].oom_kills()
        try:
            self._make(process, make)
        except BaseException:
            self._records.end(key)
            self._pumps.drop(key)
            raise
        finally:
            self.layers.release()
        self._witness(process)
        return process

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
        since = process.times.now()
        record["pid"] = starting.pid
        record["start_ticks"] = start_ticks(starting.pid)
        if starting.witness >= 0:
            record["witnessed"] = True
        try:
            self._records.update(process.key, record)
        except OSError:
            process.pidfd = -1  # settle() closes it
            process.close()
            with suppress(OrlopError):
                runtime.settle(process.starting, b"?")  # kills, reaps, removes the cgroup
            raise
        process.times.note("write_pid", since)

    def _starter(self, message: Message, record: Record) -> Callable[[Stdio | None], Starting]:
        bundle = self.bundle(message, record, message["fds"])
        return lambda stdio: runtime.start(bundle, stdio, ahead=self.ahead)

    def bundle(self, message: Message, record: Record, fds: list[int]) -> Bundle:
        """Return what a message asks for, with the namespaces that *fds* are; note its cgroup.

        It is good until the next call: its root may be of descriptors of ours.
        """
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
        if not config.get("linux", {}).get("uidMappings"):  # else each is to be id-mapped
            rootfs = self._share(rootfs)
            self.layers.name(config.get("mounts", ()))
        manner = Manner(timed=bool(message.get("timeline")), witnessed=True)
        return Bundle(record["id"], record["bundle"], config, rootfs, manner, mounts)

    def _share(self, rootfs: tuple[Mount, ...]) -> tuple[Mount, ...]:
        try:
            return self.layers.share(rootfs)
        except OSError:
            return rootfs  # the runtime says what is wrong with it

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


def read_config(bundle: str) -> Config:
    """Return a bundle's config.json; InvalidArgumentError where there is none."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            return cast("Config", json.load(file))
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"cannot read {path}: {error}") from error
