"""The CRI: both its services, as methods of one gRPC server."""

from collections.abc import Mapping

from orlop.api.cri import v1
from orlop.api.cri.containers import ContainerCalls
from orlop.api.cri.events import EventCalls
from orlop.api.cri.images import ImageService
from orlop.api.cri.node import NodeCalls
from orlop.api.cri.pods import PodCalls
from orlop.api.cri.stats import StatsCalls
from orlop.api.cri.streaming.calls import StreamingCalls
from orlop.api.cri.streaming.server import Streaming
from orlop.api.grpc import Method, Server, methods_of
from orlop.engine.engine import Engine

_BROKEN_OFF = frozenset(["PullImage", "ExecSync"])


def server(engine: Engine) -> Server:
    """Return the server that answers the CRI's calls with what *engine* does."""
    streaming = Streaming(engine)
    servicers = {
        "RuntimeService": (
            NodeCalls(engine),
            PodCalls(engine),
            ContainerCalls(engine),
            EventCalls(engine),
            StatsCalls(engine),
            StreamingCalls(engine, streaming),
        ),
        "ImageService": (ImageService(engine),),
    }
    return _Server(streaming, methods_of(v1.DESCRIPTOR, servicers, broken_off=_BROKEN_OFF))


class _Server(Server):
    """The gRPC server, with the streaming server beside it."""

    def __init__(self, streaming: Streaming, methods: Mapping[str, Method]) -> None:
        super().__init__(methods)
        self._streaming = streaming

    async def close(self) -> None:
        await self._streaming.close()
        await super().close()
