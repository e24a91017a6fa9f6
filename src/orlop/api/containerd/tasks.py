"""The service Tasks: what runs."""

import time
from contextlib import suppress

from google.protobuf.empty_pb2 import Empty

from orlop.api.containerd import v1
from orlop.api.containerd.filters import matcher
from orlop.api.containerd.headers import namespace
from orlop.api.containerd.metrics import metrics
from orlop.api.containerd.shapes import moment, typed
from orlop.engine.engine import Engine
from orlop.engine.namespaces.tasks import Process
from orlop.errors import NotFoundError, UnsupportedError, WrongStateError
from orlop.model.clients import Task
from orlop.model.container import Status

_STATUSES = {
    Status.CREATED: v1.CREATED,
    Status.RUNNING: v1.RUNNING,
    Status.PAUSED: v1.PAUSED,
}


class TaskCalls:
    """Tasks by the ids of their containers, and the processes in them."""

    def __init__(self, engine: Engine) -> None:
        self._tasks = engine.clients.tasks

    async def Create(self, request: v1.CreateTaskRequest) -> v1.CreateTaskResponse:
        if request.HasField("checkpoint") and request.checkpoint.digest:
            raise UnsupportedError("a task cannot begin with a checkpoint")
        pid = await self._tasks.create(namespace(), request.container_id, _pipes(request))
        return v1.CreateTaskResponse(container_id=request.container_id, pid=pid)

    async def Start(self, request: v1.StartTaskRequest) -> v1.StartTaskResponse:
        pid = await self._tasks.start(namespace(), request.container_id, request.exec_id)
        return v1.StartTaskResponse(pid=pid)

    async def Delete(self, request: v1.DeleteTaskRequest) -> v1.DeleteTaskResponse:
        return _ended(await self._tasks.remove(namespace(), request.container_id))

    async def DeleteProcess(self, request: v1.DeleteProcessRequest) -> v1.DeleteTaskResponse:
        where = namespace()
        return _ended(
            await self._tasks.remove_process(where, request.container_id, request.exec_id)
        )

    async def Get(self, request: v1.GetTaskRequest) -> v1.GetTaskResponse:
        found = self._tasks.get(namespace(), request.container_id, request.exec_id)
        return v1.GetTaskResponse(process=_shown(request.container_id, found))

    async def List(self, request: v1.ListTasksRequest) -> v1.ListTasksResponse:
        wanted = matcher([request.filter] if request.filter else [])
        return v1.ListTasksResponse(
            tasks=[
                _shown(container_id, one)
                for container_id, one in self._tasks.list(namespace())
                if wanted({"id": container_id})
            ]
        )

    async def Kill(self, request: v1.KillTaskRequest) -> Empty:
        await self._tasks.kill(
            namespace(),
            request.container_id,
            request.exec_id,
            signal=request.signal,
            everything=request.all,
        )
        return Empty()

    async def Exec(self, request: v1.ExecProcessRequest) -> Empty:
        await self._tasks.exec(
            namespace(),
            request.container_id,
            request.exec_id,
            typed(request.spec),
            _pipes(request),
        )
        return Empty()

    async def ResizePty(self, request: v1.ResizePtyRequest) -> Empty:
        await self._tasks.resize(
            namespace(),
            request.container_id,
            request.exec_id,
            height=request.height,
            width=request.width,
        )
        return Empty()

    async def CloseIO(self, request: v1.CloseIORequest) -> Empty:
        if request.stdin:
            await self._tasks.close_stdin(namespace(), request.container_id, request.exec_id)
        return Empty()

    async def Pause(self, request: v1.PauseTaskRequest) -> Empty:
        await self._tasks.pause(namespace(), request.container_id)
        return Empty()

    async def Resume(self, request: v1.PauseTaskRequest) -> Empty:
        await self._tasks.resume(namespace(), request.container_id)
        return Empty()

    async def ListPids(self, request: v1.ListPidsRequest) -> v1.ListPidsResponse:
        pids = await self._tasks.pids(namespace(), request.container_id)
        return v1.ListPidsResponse(processes=[v1.ProcessInfo(pid=pid) for pid in pids])

    async def Metrics(self, request: v1.MetricsRequest) -> v1.MetricsResponse:
        """Return the counters of the running tasks that the filters choose, by "id"."""
        wanted, where = matcher(request.filters), namespace()
        found = []
        for container_id, _ in self._tasks.list(where):
            if wanted({"id": container_id}):
                with suppress(NotFoundError, WrongStateError):  # it has ended
                    counted = await self._tasks.statistics(where, container_id)
                    now = moment(time.time_ns())
                    metric = v1.Metric(timestamp=now, id=container_id, data=metrics(counted))
                    found.append(metric)
        return v1.MetricsResponse(metrics=found)

    async def Update(self, request: v1.UpdateTaskRequest) -> Empty:
        """Change limits; annotations are for runtimes that know them, as ours does not."""
        await self._tasks.update(namespace(), request.container_id, typed(request.resources))
        return Empty()

    async def Wait(self, request: v1.WaitTaskRequest) -> v1.WaitTaskResponse:
        over = await self._tasks.wait(namespace(), request.container_id, request.exec_id)
        return v1.WaitTaskResponse(exit_status=over.exit_code, exited_at=moment(over.exited_ns))


def _pipes(request: v1.CreateTaskRequest | v1.ExecProcessRequest) -> Task:
    return Task(
        id="",
        stdin=request.stdin,
        stdout=request.stdout,
        stderr="" if request.terminal else request.stderr,
        terminal=request.terminal,
    )


def _shown(container_id: str, process: Process) -> v1.Process:
    return v1.Process(
        container_id=container_id,
        id=process.id,
        pid=process.pid,
        status=_STATUSES.get(process.status, v1.STOPPED),
        stdin=process.pipes.stdin,
        stdout=process.pipes.stdout,
        stderr=process.pipes.stderr,
        terminal=process.pipes.terminal,
        exit_status=process.exit_code,
        exited_at=moment(process.exited_ns) if process.exited_ns else None,
    )


def _ended(process: Process) -> v1.DeleteTaskResponse:
    return v1.DeleteTaskResponse(
        id=process.id,
        pid=process.pid,
        exit_status=process.exit_code,
        exited_at=moment(process.exited_ns) if process.exited_ns else None,
    )
