"""The CRI: both its services, as methods of one gRPC server."""

from orlop.api.cri import v1
from orlop.api.cri.containers import ContainerCalls
from orlop.api.cri.events import EventCalls
from orlop.api.cri.images import ImageService
from orlop.api.cri.node import NodeCalls
from orlop.api.cri.pods import PodCalls
from orlop.api.cri.stats import StatsCalls
from orlop.api.grpc import Server, methods_of
from orlop.engine.engine import Engine

_BROKEN_OFF = frozenset(["PullImage", "ExecSync"])


def server(engine: Engine) -> Server:
    """Return the server that answers the CRI's calls with what *engine* does."""
    servicers = {
        "RuntimeService": (
            NodeCalls(),
            PodCalls(engine),
            ContainerCalls(engine),
            EventCalls(engine),
            StatsCalls(engine),
        ),
        "ImageService": (ImageService(engine),),
    }
    return Server(methods_of(v1.DESCRIPTOR, servicers, broken_off=_BROKEN_OFF))
