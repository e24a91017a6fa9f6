"""From CRI's PodSandboxConfig to the engine's options."""

from orlop.api.cri import v1
from orlop.api.cri.labels import name_of
from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions

_POD = "POD"  # in the place of a container's name


def pod_name(config: v1.PodSandboxConfig) -> str:
    """Return the engine's name of a pod."""
    metadata = config.metadata
    if not metadata.name:
        raise InvalidArgumentError("the pod's metadata has no name")
    return name_of(_POD, metadata.name, metadata.namespace, metadata.uid, metadata.attempt)


def pod_options(request: v1.RunPodSandboxRequest) -> ContainerOptions:
    """Return what the pod of *request* is to be."""
    config = request.config
    security = config.linux.security_context
    modes = security.namespace_options
    network = "host" if modes.network == v1.NODE else "default"
    return ContainerOptions(
        hostname=config.hostname,
        labels=dict(config.labels),
        network=network,
        ipc="host" if modes.ipc == v1.NODE else "",
        uts="host" if network == "host" else "",
        dns=tuple(config.dns_config.servers),
        dns_search=tuple(config.dns_config.searches),
        dns_options=tuple(config.dns_config.options),
        sysctls=dict(config.linux.sysctls),
        cgroup_parent=config.linux.cgroup_parent,
        privileged=security.privileged,
        request=request.SerializeToString(deterministic=True),
    )
