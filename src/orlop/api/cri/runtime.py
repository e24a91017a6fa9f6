"""CRI's RuntimeService."""

from orlop import __version__
from orlop.api.cri import v1
from orlop.engine.engine import Engine

_VERSION = "v1"


class RuntimeService:
    """The node's runtime, for a kubelet."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Version(self, _request: v1.VersionRequest) -> v1.VersionResponse:
        return v1.VersionResponse(
            version="0.1.0",  # of the kubelet's own API for this call; all runtimes say so
            runtime_name="orlop",
            runtime_version=__version__,
            runtime_api_version=_VERSION,
        )

    async def RuntimeConfig(self, _request: v1.RuntimeConfigRequest) -> v1.RuntimeConfigResponse:
        linux = v1.LinuxRuntimeConfiguration(cgroup_driver=v1.CGROUPFS)
        return v1.RuntimeConfigResponse(linux=linux)
