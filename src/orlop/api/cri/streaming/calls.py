"""The part of CRI's RuntimeService whose answers are URLs of the streaming server."""

from orlop.api.cri import v1
from orlop.api.cri.containers import find_container
from orlop.api.cri.streaming.server import Streaming
from orlop.engine.engine import Engine
from orlop.errors import InvalidArgumentError, NotRunningError, WrongStateError


class StreamingCalls:
    """Exec, Attach and PortForward."""

    def __init__(self, engine: Engine, streaming: Streaming) -> None:
        self._engine = engine
        self._streaming = streaming

    async def Exec(self, request: v1.ExecRequest) -> v1.ExecResponse:
        if not request.cmd:
            raise InvalidArgumentError("the request has no command")
        request.container_id = self._running(request)
        return v1.ExecResponse(url=await self._streaming.url(request))

    async def Attach(self, request: v1.AttachRequest) -> v1.AttachResponse:
        request.container_id = self._running(request)
        return v1.AttachResponse(url=await self._streaming.url(request))

    async def PortForward(self, request: v1.PortForwardRequest) -> v1.PortForwardResponse:
        pod = self._engine.pods.get(request.pod_sandbox_id)
        if not pod.running:
            raise WrongStateError(f"pod {pod.name} is not ready")
        request.pod_sandbox_id = pod.id
        return v1.PortForwardResponse(url=await self._streaming.url(request))

    def _running(self, request: v1.ExecRequest | v1.AttachRequest) -> str:
        """Return the whole id of the container that a request is for."""
        if not (request.stdin or request.stdout or request.stderr):
            raise InvalidArgumentError("the request asks for none of stdin, stdout and stderr")
        if request.tty and request.stderr:
            raise InvalidArgumentError("a terminal has no stderr of its own")
        found = find_container(self._engine, request.container_id)
        if not found.running:
            raise NotRunningError(f"container {found.name} is not running")
        return found.id
