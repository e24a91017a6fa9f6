"""The part of CRI's RuntimeService that is about pods: PodSandbox, in its words."""

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator

from google.protobuf.json_format import MessageToDict

from orlop.api.cri import v1
from orlop.api.cri.batches import batches
from orlop.api.cri.labels import selects
from orlop.api.cri.parse_pod import pod_name, pod_options
from orlop.engine.engine import Engine
from orlop.errors import NotFoundError
from orlop.model.container import Container


class PodCalls:
    """Pods, for a kubelet. What it asks to end that is gone already has ended."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def RunPodSandbox(self, request: v1.RunPodSandboxRequest) -> v1.RunPodSandboxResponse:
        pod = await self._engine.pods.run(pod_options(request), name=pod_name(request.config))
        return v1.RunPodSandboxResponse(pod_sandbox_id=pod.id)

    async def StopPodSandbox(self, request: v1.StopPodSandboxRequest) -> v1.StopPodSandboxResponse:
        with contextlib.suppress(NotFoundError):
            await self._engine.pods.stop(request.pod_sandbox_id)
        return v1.StopPodSandboxResponse()

    async def RemovePodSandbox(
        self, request: v1.RemovePodSandboxRequest
    ) -> v1.RemovePodSandboxResponse:
        with contextlib.suppress(NotFoundError):
            await self._engine.pods.remove(request.pod_sandbox_id)
        return v1.RemovePodSandboxResponse()

    async def PodSandboxStatus(
        self, request: v1.PodSandboxStatusRequest
    ) -> v1.PodSandboxStatusResponse:
        pod = self._engine.pods.get(request.pod_sandbox_id)
        info = {"info": json.dumps(_details(pod))} if request.verbose else {}
        return v1.PodSandboxStatusResponse(status=pod_status(pod), info=info)

    async def ListPodSandbox(self, request: v1.ListPodSandboxRequest) -> v1.ListPodSandboxResponse:
        found = listed_pods(self._engine, request.filter)
        return v1.ListPodSandboxResponse(items=map(_item, found))

    async def StreamPodSandboxes(
        self, request: v1.StreamPodSandboxesRequest
    ) -> AsyncGenerator[v1.StreamPodSandboxesResponse, None]:
        found = listed_pods(self._engine, request.filter)
        for batch in batches(map(_item, found)):
            yield v1.StreamPodSandboxesResponse(pod_sandboxes=batch)

    async def UpdatePodSandboxResources(
        self, request: v1.UpdatePodSandboxResourcesRequest
    ) -> v1.UpdatePodSandboxResourcesResponse:
        """Note what the pod has now: the kubelet has changed the pod's cgroup itself."""
        pod = self._engine.pods.get(request.pod_sandbox_id)
        kept = asked(pod)
        for name in ("overhead", "resources"):
            if request.HasField(name):
                getattr(kept.config.linux, name).CopyFrom(getattr(request, name))
        self._engine.pods.note_request(pod.id, kept.SerializeToString(deterministic=True))
        return v1.UpdatePodSandboxResourcesResponse()


def listed_pods(engine: Engine, wanted: v1.PodSandboxFilter) -> Iterator[Container]:
    """Yield the pods that a filter selects."""
    for pod in engine.pods.list():
        if wanted.HasField("state") and _state(pod) != wanted.state.state:
            continue
        if pod.id.startswith(wanted.id) and selects(wanted.label_selector, pod.options.labels):
            yield pod


def asked(pod: Container) -> v1.RunPodSandboxRequest:
    """Return the request that made *pod*."""
    return v1.RunPodSandboxRequest.FromString(pod.options.request)


def _details(pod: Container) -> dict[str, object]:
    config = MessageToDict(asked(pod).config, preserving_proto_field_name=True)
    return {"name": pod.name, "config": config}


def _state(pod: Container) -> v1.PodSandboxState:
    return v1.SANDBOX_READY if pod.running else v1.SANDBOX_NOTREADY


def _item(pod: Container) -> v1.PodSandbox:
    request = asked(pod)
    return v1.PodSandbox(
        id=pod.id,
        metadata=request.config.metadata,
        state=_state(pod),
        created_at=pod.created_ns,
        labels=request.config.labels,
        annotations=request.config.annotations,
        runtime_handler=request.runtime_handler,
    )


def pod_status(pod: Container) -> v1.PodSandboxStatus:
    """Return a pod as PodSandboxStatus tells it."""
    request = asked(pod)
    modes = request.config.linux.security_context.namespace_options
    return v1.PodSandboxStatus(
        id=pod.id,
        metadata=request.config.metadata,
        state=_state(pod),
        created_at=pod.created_ns,
        network=_network(pod),
        linux=v1.LinuxPodSandboxStatus(namespaces=v1.Namespace(options=modes)),
        labels=request.config.labels,
        annotations=request.config.annotations,
        runtime_handler=request.runtime_handler,
    )


def _network(pod: Container) -> v1.PodSandboxNetworkStatus:
    """Return the pod's addresses; none if it is in the host's network."""
    own = (text for one in pod.endpoints for text in one.addresses)
    found = [text.partition("/")[0] for text in (*own, *pod.plugged)]
    return v1.PodSandboxNetworkStatus(
        ip=found[0] if found else "", additional_ips=[v1.PodIP(ip=ip) for ip in found[1:]]
    )
