"""The part of CRI's RuntimeService that is about containers."""

import contextlib
import json
import math
from collections.abc import AsyncGenerator, Iterator

from orlop.api.cri import v1
from orlop.api.cri.batches import batches
from orlop.api.cri.images import find_image
from orlop.api.cri.labels import selects
from orlop.api.cri.parse_container import container_name, container_options, limits_of
from orlop.api.cri.pods import asked
from orlop.api.cri.render_container import render_container, render_status, state_of
from orlop.engine.engine import Engine
from orlop.engine.execs.capture import STDERR, STDOUT
from orlop.engine.requests import UpdateRequest
from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.model.container import Container, ExecOptions

_MOST_OUTPUT = 8 << 20  # bytes that ExecSync returns of both streams


class ContainerCalls:
    """Containers of pods, for a kubelet. What it asks to end that is gone already has ended."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def CreateContainer(
        self, request: v1.CreateContainerRequest
    ) -> v1.CreateContainerResponse:
        pod = self._engine.pods.get(request.pod_sandbox_id)
        of_pod = request.sandbox_config if request.HasField("sandbox_config") else asked(pod).config
        created = await self._engine.pods.create_container(
            pod.id,
            container_options(request.config, of_pod),
            name=container_name(request.config, of_pod),
        )
        return v1.CreateContainerResponse(container_id=created.id)

    async def StartContainer(self, request: v1.StartContainerRequest) -> v1.StartContainerResponse:
        await self._engine.containers.start(self._find(request.container_id).id)
        return v1.StartContainerResponse()

    async def StopContainer(self, request: v1.StopContainerRequest) -> v1.StopContainerResponse:
        with contextlib.suppress(NotFoundError):
            found = self._find(request.container_id)
            await self._engine.containers.stop(found.id, timeout_s=max(0, request.timeout))
        return v1.StopContainerResponse()

    async def RemoveContainer(
        self, request: v1.RemoveContainerRequest
    ) -> v1.RemoveContainerResponse:
        with contextlib.suppress(NotFoundError):
            found = self._find(request.container_id)
            await self._engine.containers.remove(found.id, force=True, volumes=True)
        return v1.RemoveContainerResponse()

    async def ListContainers(self, request: v1.ListContainersRequest) -> v1.ListContainersResponse:
        found = listed_containers(self._engine, request.filter)
        return v1.ListContainersResponse(containers=map(render_container, found))

    async def StreamContainers(
        self, request: v1.StreamContainersRequest
    ) -> AsyncGenerator[v1.StreamContainersResponse, None]:
        found = listed_containers(self._engine, request.filter)
        for batch in batches(map(render_container, found)):
            yield v1.StreamContainersResponse(containers=batch)

    async def ContainerStatus(
        self, request: v1.ContainerStatusRequest
    ) -> v1.ContainerStatusResponse:
        found = self._find(request.container_id)
        info = {"info": json.dumps({"pid": found.pid})} if request.verbose else {}
        status = render_status(found, find_image(self._engine, found.image))
        return v1.ContainerStatusResponse(status=status, info=info)

    async def UpdateContainerResources(
        self, request: v1.UpdateContainerResourcesRequest
    ) -> v1.UpdateContainerResourcesResponse:
        """Change limits, of a running container at once; what is 0 stays as it is."""
        found = self._find(request.container_id)
        await self._engine.containers.update(
            found.id, UpdateRequest(resources=limits_of(request.linux))
        )
        return v1.UpdateContainerResourcesResponse()

    async def ExecSync(self, request: v1.ExecSyncRequest) -> v1.ExecSyncResponse:
        """Run a command; its time limit is in seconds, 0 for none."""
        found = self._find(request.container_id)
        if not request.cmd:
            raise InvalidArgumentError("the request has no command")
        captured = await self._engine.execs.capture(
            found.id,
            ExecOptions(command=tuple(request.cmd), grouped=True),
            timeout_s=request.timeout if request.timeout > 0 else math.inf,
            limit=_MOST_OUTPUT,
        )
        if captured.exit_code is None:
            raise TimeoutError(f"the command ran longer than {request.timeout} s")
        return v1.ExecSyncResponse(
            stdout=captured.output(STDOUT),
            stderr=captured.output(STDERR),
            exit_code=captured.exit_code,
        )

    async def ReopenContainerLog(
        self, request: v1.ReopenContainerLogRequest
    ) -> v1.ReopenContainerLogResponse:
        await self._engine.containers.reopen_log(self._find(request.container_id).id)
        return v1.ReopenContainerLogResponse()

    def _find(self, ref: str) -> Container:
        return find_container(self._engine, ref)


def find_container(engine: Engine, ref: str) -> Container:
    """Return a container of a pod; NotFoundError for others, which are not the kubelet's."""
    found = engine.containers.get(ref)
    if not found.options.pod:
        raise NotFoundError(f"No such container: {ref[:200]}")
    return found


def listed_containers(engine: Engine, wanted: v1.ContainerFilter) -> Iterator[Container]:
    """Yield the containers of pods that a filter selects."""
    for one in engine.containers.list(all=True):
        options = one.options
        if not options.pod.startswith(wanted.pod_sandbox_id) or not options.pod:
            continue
        if wanted.HasField("state") and state_of(one) != wanted.state.state:
            continue
        if one.id.startswith(wanted.id) and selects(wanted.label_selector, options.labels):
            yield one
