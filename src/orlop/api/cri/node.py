"""The part of CRI's RuntimeService that is about the node."""

import json

from orlop import __version__
from orlop.api.cri import v1
from orlop.api.cri.parse_pod import HANDLERS
from orlop.engine.engine import Engine

_VERSION = "v1"


class NodeCalls:
    """Which runtime this is, and what it can do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Version(self, _request: v1.VersionRequest) -> v1.VersionResponse:
        return v1.VersionResponse(
            version="0.1.0",  # of the kubelet's own API for this call; all runtimes say so
            runtime_name="orlop",
            runtime_version=__version__,
            runtime_api_version=_VERSION,
        )

    async def Status(self, request: v1.StatusRequest) -> v1.StatusResponse:
        problem = await self._engine.pods.network_problem()
        ready = [
            v1.RuntimeCondition(type="RuntimeReady", status=True),
            v1.RuntimeCondition(
                type="NetworkReady",
                status=not problem,
                reason="NetworkPluginNotReady" if problem else "",
                message=problem,
            ),
        ]
        features = v1.RuntimeHandlerFeatures(recursive_read_only_mounts=True)
        info = {"version": json.dumps(__version__)} if request.verbose else {}
        return v1.StatusResponse(
            status=v1.RuntimeStatus(conditions=ready),
            info=info,
            runtime_handlers=[v1.RuntimeHandler(name=one, features=features) for one in HANDLERS],
            features=v1.RuntimeFeatures(),
        )

    async def RuntimeConfig(self, _request: v1.RuntimeConfigRequest) -> v1.RuntimeConfigResponse:
        linux = v1.LinuxRuntimeConfiguration(cgroup_driver=v1.CGROUPFS)
        return v1.RuntimeConfigResponse(linux=linux)

    async def UpdateRuntimeConfig(
        self, _request: v1.UpdateRuntimeConfigRequest
    ) -> v1.UpdateRuntimeConfigResponse:
        """Do nothing: the range of the pods' addresses is the network's own matter."""
        return v1.UpdateRuntimeConfigResponse()
