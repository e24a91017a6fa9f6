"""The part of CRI's RuntimeService that is about the node."""

from orlop import __version__
from orlop.api.cri import v1

_VERSION = "v1"


class NodeCalls:
    """Which runtime this is, and what it can do."""

    async def Version(self, _request: v1.VersionRequest) -> v1.VersionResponse:
        return v1.VersionResponse(
            version="0.1.0",  # of the kubelet's own API for this call; all runtimes say so
            runtime_name="orlop",
            runtime_version=__version__,
            runtime_api_version=_VERSION,
        )

    async def Status(self, _request: v1.StatusRequest) -> v1.StatusResponse:
        ready = [
            v1.RuntimeCondition(type=name, status=True) for name in ("RuntimeReady", "NetworkReady")
        ]
        return v1.StatusResponse(status=v1.RuntimeStatus(conditions=ready))

    async def RuntimeConfig(self, _request: v1.RuntimeConfigRequest) -> v1.RuntimeConfigResponse:
        linux = v1.LinuxRuntimeConfiguration(cgroup_driver=v1.CGROUPFS)
        return v1.RuntimeConfigResponse(linux=linux)

    async def UpdateRuntimeConfig(
        self, _request: v1.UpdateRuntimeConfigRequest
    ) -> v1.UpdateRuntimeConfigResponse:
        """Do nothing: the range of the pods' addresses is the network's own matter."""
        return v1.UpdateRuntimeConfigResponse()
