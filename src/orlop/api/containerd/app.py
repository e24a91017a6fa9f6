"""containerd's services, as methods of one gRPC server."""

from collections.abc import Sequence

from orlop.api.containerd import v1
from orlop.api.containerd.containers import ContainerCalls
from orlop.api.containerd.content import ContentCalls
from orlop.api.containerd.events import EventCalls
from orlop.api.containerd.images import ImageCalls
from orlop.api.containerd.introspection import IntrospectionCalls, VersionCalls
from orlop.api.containerd.leases import LeaseCalls
from orlop.api.containerd.namespaces import NamespaceCalls
from orlop.api.containerd.snapshots import DiffCalls, SnapshotCalls
from orlop.api.containerd.streaming import Channels, StreamingCalls
from orlop.api.containerd.tasks import TaskCalls
from orlop.api.containerd.transfer import TransferCalls
from orlop.api.grpc import Server, methods_of
from orlop.engine.engine import Engine

_BROKEN_OFF = frozenset(["Wait", "Transfer"])


def server(engine: Engine) -> Server:
    """Return the server that answers containerd's clients with what *engine* does."""
    channels = Channels()
    servicers: dict[str, Sequence[object]] = {
        "Version": (VersionCalls(),),
        "Namespaces": (NamespaceCalls(engine),),
        "Leases": (LeaseCalls(engine),),
        "Content": (ContentCalls(engine),),
        "Images": (ImageCalls(engine),),
        "Snapshots": (SnapshotCalls(engine),),
        "Diff": (DiffCalls(engine),),
        "Containers": (ContainerCalls(engine),),
        "Tasks": (TaskCalls(engine),),
        "Events": (EventCalls(engine),),
        "Streaming": (StreamingCalls(channels),),
        "Transfer": (TransferCalls(engine, channels),),
    }
    names = tuple(name.lower() for name in [*servicers, "Introspection"])
    servicers["Introspection"] = (IntrospectionCalls(engine, tuple(sorted(names))),)
    methods = methods_of(v1.DESCRIPTOR, servicers, broken_off=_BROKEN_OFF)
    return Server({path_of(path): method for path, method in methods.items()})


def path_of(path: str) -> str:
    """Return the path of a method as clients use it: each service is in a package of its own."""
    service, _, name = path.removeprefix(f"/{v1.DESCRIPTOR.package}.").partition("/")
    return f"/containerd.services.{service.lower()}.v1.{service}/{name}"
