"""The services Version and Introspection: which engine this is, and what it can do."""

import os
from collections.abc import Iterator

from google.protobuf.empty_pb2 import Empty

from orlop import __version__
from orlop.api.containerd import v1
from orlop.api.containerd.filters import matcher
from orlop.engine.engine import Engine
from orlop.engine.namespaces.snapshots import OVERLAYFS
from orlop.model.platform import host_platform

#: The version of containerd whose API this is; Orlop's own follows it, as semver.org allows.
_API = "1.7.0"
_SERVICE = "io.containerd.grpc.v1"
_SNAPSHOTTER = "io.containerd.snapshotter.v1"


class VersionCalls:
    """What `ctr version` shows."""

    async def Version(self, _request: Empty) -> v1.VersionResponse:
        return v1.VersionResponse(version=f"{_API}+orlop.{__version__}", revision="")


class IntrospectionCalls:
    """What `ctr info` and `ctr plugins ls` show. *services* are the names of those served here."""

    def __init__(self, engine: Engine, services: tuple[str, ...]) -> None:
        self._engine = engine
        self._services = services

    async def Server(self, _request: Empty) -> v1.ServerResponse:
        return v1.ServerResponse(
            uuid=self._engine.system.info().id,
            pid=os.getpid(),
            pidns=os.stat("/proc/self/ns/pid").st_ino,
        )

    async def Plugins(self, request: v1.PluginsRequest) -> v1.PluginsResponse:
        """Return the services and the snapshot driver."""
        wanted = matcher(request.filters)
        return v1.PluginsResponse(plugins=[one for one in self._plugins() if wanted(_fields(one))])

    def _plugins(self) -> Iterator[v1.Plugin]:
        here = host_platform()
        shown = v1.Platform(os=here.os, architecture=here.architecture, variant=here.variant)
        for name in dict.fromkeys((OVERLAYFS, self._engine.system.driver)):
            yield v1.Plugin(type=_SNAPSHOTTER, id=name, platforms=[shown])
        for name in self._services:
            yield v1.Plugin(type=_SERVICE, id=name)


def _fields(plugin: v1.Plugin) -> dict[str, object]:
    return {"type": plugin.type, "id": plugin.id, "capabilities": list(plugin.capabilities)}
