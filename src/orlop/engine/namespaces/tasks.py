"""Tasks: what runs a client's container. A task is a container of the engine's, its pipes apart."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from orlop.engine.containers.cgroup import running_cgroup
from orlop.engine.containers.containers import Containers
from orlop.engine.context import Context
from orlop.engine.execs.execs import Execs
from orlop.engine.namespaces.events import ClientEvent, ClientEvents
from orlop.engine.namespaces.fifos import opened
from orlop.engine.namespaces.names import ImageNames
from orlop.engine.namespaces.snapshots import ClientSnapshots, RootFS
from orlop.engine.namespaces.specs import Spec, parse_process, parse_resources, parse_spec
from orlop.engine.requests import UpdateRequest
from orlop.engine.threads import in_thread
from orlop.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    NotRunningError,
    OrlopError,
    UnsupportedError,
    WrongStateError,
)
from orlop.model.clients import ClientContainer, Task, Typed
from orlop.model.container import (
    Container,
    ContainerOptions,
    Event,
    ExecOptions,
    LogOptions,
    Status,
)
from orlop.model.namespace import check_identifier
from orlop.runtime.cgroups import Statistics

#: Names of what we are one of; who names another one wants what we do not do.
_RUNTIMES = ("", "io.containerd.runc.v1", "io.containerd.runc.v2")

#: What the engine's events about containers mean for tasks.
_TOPICS = {
    "start": "/tasks/start",
    "die": "/tasks/exit",
    "exec_die": "/tasks/exit",
    "oom": "/tasks/oom",
    "pause": "/tasks/paused",
    "unpause": "/tasks/resumed",
}


class Process(NamedTuple):
    """A task, or a further process in it, as it is now."""

    id: str
    status: Status
    pid: int
    exit_code: int
    exited_ns: int
    pipes: Task


class _Exec(NamedTuple):
    """A further process: its id in the engine, and the client's pipes."""

    id: str
    pipes: Task


class Tasks:
    """The tasks of all namespaces, by the ids of their containers."""

    def __init__(
        self,
        context: Context,
        *,
        containers: Containers,
        execs: Execs,
        images: ImageNames,
        snapshots: ClientSnapshots,
        events: ClientEvents,
    ) -> None:
        self._events = events
        events.translate = self._translated
        self._context = context
        self._store = context.metadata.clients.containers
        self._containers = containers
        self._execs = execs
        self._images = images
        self._snapshots = snapshots
        #: Whose containers of the engine the tasks are, and what ran in them last.
        self._where = {
            one.value.task.id: (one.namespace, one.key)
            for one in self._store.list_all()
            if one.value.task is not None
        }
        self._pids: dict[str, int] = {}
        self._processes: dict[tuple[str, str], dict[str, _Exec]] = {}
        self._changing: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def create(self, namespace: str, container_id: str, pipes: Task) -> int:
        """Make the task of a container; returns 0, the process id that it does not have yet.

        *pipes* are the paths of named pipes, which are opened now. AlreadyExistsError.
        """
        async with self._change(namespace, container_id) as record:
            if self._has_task(record):
                raise AlreadyExistsError(f"the container {container_id} has a task")
            if record.runtime not in _RUNTIMES:
                raise UnsupportedError(
                    f"there is no runtime {record.runtime[:100]!r}", hint=f"use {_RUNTIMES[-1]}"
                )
            spec = parse_spec(record.spec, namespace=namespace)
            root = None
            if record.snapshot_key:
                self._snapshots.check_driver(record.snapshotter)
                root = await self._snapshots.rootfs(namespace, record.snapshot_key)
            name = f"{namespace}--{container_id}"  # neither of them has two dashes
            made = self._described(name, record, spec, root, pipes)
            await self._clear(name)
            async with _opened(pipes) as fds:
                await self._containers.add(made)
                try:
                    if fds:
                        await self._containers.use_fifos(made.id, fds)
                    task = replace(pipes, id=made.id)
                    self._store.put(namespace, container_id, replace(record, task=task))
                    self._where[made.id] = (namespace, container_id)
                except BaseException:
                    await self._containers.remove(made.id)
                    raise
        streams = {"stdin": pipes.stdin, "stdout": pipes.stdout, "stderr": pipes.stderr}
        told = {**streams, "terminal": pipes.terminal}
        self._events.publish(namespace, "/tasks/create", container_id=container_id, io=told)
        return 0

    async def _clear(self, name: str) -> None:
        """Remove what an engine before us was making when it was killed."""
        with contextlib.suppress(NotFoundError):
            left = self._containers.get(name)
            if left.name == name and left.options.spec:
                await self._containers.remove(left.id, force=True)

    def _described(
        self, name: str, record: ClientContainer, spec: Spec, root: RootFS | None, pipes: Task
    ) -> Container:
        if root is None and not spec.root.startswith("/"):
            raise InvalidArgumentError("the container has neither a snapshot nor a folder as root")
        tree, process = spec.tree, spec.tree["process"]
        env = process.get("env")
        options = ContainerOptions(
            image=record.image,
            command=spec.args,
            environment=tuple(map(str, env)) if isinstance(env, list) else (),
            working_dir=str(process.get("cwd", "")),
            hostname=str(tree.get("hostname", "")),
            terminal=pipes.terminal,
            open_stdin=bool(pipes.stdin),
            stdin_once=True,
            labels=record.labels,
            log=LogOptions(driver="none"),
            read_only=spec.read_only,
            network=spec.network,
            cgroup_parent=spec.cgroup_parent,
            spec=msgspec.json.encode(tree),
        )
        image = ""
        with contextlib.suppress(NotFoundError):
            image = self._images.get(record.image).config
        return Container(
            id=secrets.token_hex(32),
            name=name,
            options=options,
            image=image,
            image_name=record.image,
            created_ns=time.time_ns(),
            path=spec.args[0],
            args=spec.args[1:],
            driver=root.driver if root else "",
            layers=root.layers if root else (),
            snapshot=root.name if root else "",
            rootfs="" if root else spec.root,
        )

    async def start(self, namespace: str, container_id: str, exec_id: str) -> int:
        """Run the task, or a further process in it; returns the process id."""
        task = self._task(namespace, container_id)
        if not exec_id:
            if not await self._containers.start(task.id):
                raise WrongStateError(f"the task {container_id} runs already")
            pid = self._pids[task.id] = self._context.live(task.id).pid
            return pid
        exec_ = self._exec(namespace, container_id, exec_id)
        try:
            await self._execs.start(exec_.id)
        except OrlopError:
            await self._containers.drop_fifos(task.id, exec_.id)
            raise
        pid = self._execs.get(exec_.id).last_pid
        self._pids[exec_.id] = pid
        self._tell(namespace, "exec-started", container_id, exec_id=exec_id, pid=pid)
        return pid

    async def wait(self, namespace: str, container_id: str, exec_id: str) -> Process:
        """Return the process once it has ended."""
        if exec_id:
            exec_ = self._exec(namespace, container_id, exec_id)
            await self._execs.wait(exec_.id)
            return self.get(namespace, container_id, exec_id)
        task = self._task(namespace, container_id)
        container = self._containers.get(task.id)
        if container.status != Status.EXITED:
            finished = await self._containers.wait(task.id, condition="next-exit")
            if not self._context.records.has(task.id):
                code = finished.exit_code
                return Process(container_id, Status.EXITED, 0, code, time.time_ns(), task)
        return self.get(namespace, container_id, "")

    def get(self, namespace: str, container_id: str, exec_id: str) -> Process:
        """Return the process as it is now; NotFoundError."""
        task = self._task(namespace, container_id)
        if not exec_id:
            return _shown(container_id, self._containers.get(task.id), task)
        exec_ = self._exec(namespace, container_id, exec_id)
        found = self._execs.get(exec_.id)
        status = Status.RUNNING if found.running else Status.CREATED
        if found.exit_code is not None:
            status = Status.EXITED
        code, ended_ns = found.exit_code or 0, found.finished_ns
        return Process(exec_id, status, found.pid, code, ended_ns, exec_.pipes)

    def list(self, namespace: str) -> Sequence[tuple[str, Process]]:
        """Return the tasks of a namespace, by the ids of their containers."""
        found = []
        for one in self._store.list(namespace):
            if self._has_task(one.value):
                found.append((one.key, self.get(namespace, one.key, "")))
        return found

    async def remove(self, namespace: str, container_id: str) -> Process:
        """Remove a task that does not run; returns how it ended."""
        async with self._change(namespace, container_id) as record:
            task = self._task(namespace, container_id)
            container = await self._containers.settled(task.id)
            if container.running:
                raise WrongStateError(f"the task {container_id} runs", hint="kill it first")
            over = _shown(container_id, container, task)
            await self._containers.remove(task.id)
            self._store.put(namespace, container_id, replace(record, task=None))
            for one in self._processes.pop((namespace, container_id), {}).values():
                await self._containers.drop_fifos(task.id, one.id)
                self._pids.pop(one.id, None)
            self._where.pop(task.id, None)
            self._pids.pop(task.id, None)
        self._tell(
            namespace,
            "delete",
            container_id,
            id=container_id,
            pid=over.pid,
            exit_status=over.exit_code,
            exited_at=over.exited_ns,
        )
        return over

    async def remove_process(self, namespace: str, container_id: str, exec_id: str) -> Process:
        """Forget a further process that does not run; returns how it ended."""
        over = self.get(namespace, container_id, exec_id)
        if over.status == Status.RUNNING:
            raise WrongStateError(f"the process {exec_id} runs", hint="kill it first")
        made = self._processes[namespace, container_id].pop(exec_id)
        self._pids.pop(made.id, None)
        if over.status == Status.CREATED:
            await self._containers.drop_fifos(self._task(namespace, container_id).id, made.id)
        return over

    async def kill(
        self,
        namespace: str,
        container_id: str,
        exec_id: str,
        *,
        signal: int,
        everything: bool,
    ) -> None:
        """Send a signal to a process, or to all of the task; NotFoundError if it does not run."""
        task = self._task(namespace, container_id)
        if exec_id:
            exec_ = self._exec(namespace, container_id, exec_id)
            await self._execs.signal(exec_.id, signal)
            return
        if not self._containers.get(task.id).running:
            raise NotFoundError(f"the task {container_id} does not run")
        del everything  # SIGKILL reaches all of them; others are for the first process
        await self._containers.kill(task.id, signal=str(signal))

    async def exec(
        self, namespace: str, container_id: str, exec_id: str, spec: Typed, pipes: Task
    ) -> None:
        """Make a further process in a running task; AlreadyExistsError."""
        check_identifier("process", exec_id)
        async with self._change(namespace, container_id):
            task = self._task(namespace, container_id)
            known = self._processes.setdefault((namespace, container_id), {})
            if exec_id in known:
                raise AlreadyExistsError(f"the process {exec_id} exists")
            process = parse_process(spec)
            process["terminal"] = pipes.terminal
            options = ExecOptions(
                command=tuple(process["args"]),
                terminal=pipes.terminal,
                attach_stdin=bool(pipes.stdin),
            )
            async with _opened(pipes) as fds:
                made = await self._execs.add(task.id, options, process)
                if fds:
                    await self._containers.use_fifos(task.id, fds, exec_id=made)
            known[exec_id] = _Exec(made, pipes)
        self._tell(namespace, "exec-added", container_id, exec_id=exec_id)

    async def pause(self, namespace: str, container_id: str) -> None:
        """Stop all processes of the task."""
        await self._containers.pause(self._task(namespace, container_id).id)

    async def resume(self, namespace: str, container_id: str) -> None:
        """Let them go on."""
        await self._containers.unpause(self._task(namespace, container_id).id)

    async def resize(
        self, namespace: str, container_id: str, exec_id: str, *, height: int, width: int
    ) -> None:
        """Change the size of a terminal."""
        task = self._task(namespace, container_id)
        if exec_id:
            exec_ = self._exec(namespace, container_id, exec_id)
            await self._execs.resize(exec_.id, height=height, width=width)
        else:
            await self._containers.resize(task.id, height=height, width=width)

    async def close_stdin(self, namespace: str, container_id: str, exec_id: str) -> None:
        """End the input of a process; no error if it has ended."""
        task = self._task(namespace, container_id)
        with contextlib.suppress(NotRunningError, NotFoundError):
            if exec_id:
                exec_ = self._exec(namespace, container_id, exec_id)
                await self._execs.close_stdin(exec_.id)
            else:
                await self._containers.close_stdin(task.id)

    async def pids(self, namespace: str, container_id: str) -> Mapping[int, str]:
        """Return the ids of the task's processes, with the names of those made by exec()."""
        task = self._task(namespace, container_id)
        container = await self._containers.settled(task.id)
        if not container.running:
            raise NotFoundError(f"the task {container_id} does not run")
        with running_cgroup(container) as cgroup:
            pids = await in_thread(lambda: sorted(cgroup.pids()))
        known = self._processes.get((namespace, container_id), {})
        names = {self._execs.get(one.id).pid: name for name, one in known.items()}
        return {pid: names.get(pid, "") for pid in pids}

    async def statistics(self, namespace: str, container_id: str) -> Statistics:
        """Return the counters of a running task; WrongStateError for one that does not run."""
        return await self._containers.stats(self._task(namespace, container_id).id)

    async def update(self, namespace: str, container_id: str, limits: Typed) -> None:
        """Change the limits of a task to those of config.json's resources."""
        request = UpdateRequest(resources=parse_resources(limits))
        await self._containers.update(self._task(namespace, container_id).id, request)

    def _tell(self, namespace: str, action: str, container_id: str, **fields: Any) -> None:
        topic = f"/tasks/{action}"
        self._events.publish(namespace, topic, container_id=container_id, **fields)

    def _translated(self, event: Event) -> ClientEvent | None:
        """Return what an event of the engine says of a task; None if it is of none."""
        where = self._where.get(event.id)
        action = event.action.partition(":")[0]
        if where is None or action not in _TOPICS:
            return None
        namespace, container_id = where
        fields: dict[str, object] = {"container_id": container_id}
        if action == "start":
            fields["pid"] = self._pids[event.id] = self._context.live(event.id).pid
        elif action in ("die", "exec_die"):
            ended, name = event.id, container_id
            if action == "exec_die":
                ended = event.attributes["execID"]
                known = self._processes.get(where, {}).items()
                name = next((name for name, one in known if one.id == ended), "")
            fields |= {"id": name, "pid": self._pids.pop(ended, 0), "exited_at": event.time_ns}
            fields["exit_status"] = int(event.attributes["exitCode"])
        return ClientEvent(namespace, _TOPICS[action], event.time_ns, fields)

    def _has_task(self, record: ClientContainer) -> bool:
        """Whether the container has a task; what Docker's client has removed is gone."""
        return record.task is not None and self._context.records.has(record.task.id)

    def _task(self, namespace: str, container_id: str) -> Task:
        record = self._store.get(namespace, container_id)
        if record.task is None or not self._has_task(record):
            raise NotFoundError(f"the container {container_id} has no task")
        return record.task

    def _exec(self, namespace: str, container_id: str, exec_id: str) -> _Exec:
        try:
            return self._processes[namespace, container_id][exec_id]
        except KeyError:
            raise NotFoundError(f"no process {exec_id[:80]} in {container_id[:80]}") from None

    @asynccontextmanager
    async def _change(self, namespace: str, container_id: str) -> AsyncIterator[ClientContainer]:
        """Give the container's record, which nobody else changes meanwhile."""
        lock = self._changing.setdefault((namespace, container_id), asyncio.Lock())
        async with lock:
            yield self._store.get(namespace, container_id)


@asynccontextmanager
async def _opened(pipes: Task) -> AsyncIterator[dict[str, int]]:
    paths = {"stdin": pipes.stdin, "stdout": pipes.stdout, "stderr": pipes.stderr}
    with contextlib.ExitStack() as undo:
        yield await in_thread(undo.enter_context, opened(paths))


def _shown(container_id: str, container: Container, task: Task) -> Process:
    return Process(
        id=container_id,
        status=container.status,
        pid=container.pid,
        exit_code=container.exit_code,
        exited_ns=container.finished_ns,
        pipes=task,
    )
