"""From CRI's PodSandboxConfig to the engine's options."""

from orlop.api.bandwidth import EGRESS, INGRESS, annotated_rate
from orlop.api.cri import v1
from orlop.api.cri.labels import known, name_of
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import ContainerOptions
from orlop.model.network import Bandwidth

HANDLERS = ("", "orlop")  # both the same
_PROTOCOLS: dict[int, str] = {v1.TCP: "tcp", v1.UDP: "udp", v1.SCTP: "sctp"}
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
    if request.runtime_handler not in HANDLERS:
        raise InvalidArgumentError(
            f"there is no runtime handler {request.runtime_handler[:100]!r}",
            hint=f"use {' or '.join(map(repr, HANDLERS))}",
        )
    if modes.userns_options.uids and modes.userns_options.mode == v1.POD:
        raise UnsupportedError("pods with a user namespace of their own are not supported")
    network = "host" if modes.network == v1.NODE else "default"
    return ContainerOptions(
        hostname=config.hostname,
        labels=dict(config.labels),
        network=network,
        ipc="host" if modes.ipc == v1.NODE else "",
        pid="pod" if modes.pid == v1.POD else "",
        uts="host" if network == "host" else "",
        dns=tuple(config.dns_config.servers),
        dns_search=tuple(config.dns_config.searches),
        dns_options=tuple(config.dns_config.options),
        port_bindings=_bindings(config) if network != "host" else {},
        bandwidth=Bandwidth(
            ingress_bps=annotated_rate(config.annotations, INGRESS),
            egress_bps=annotated_rate(config.annotations, EGRESS),
        ),
        plugin_arguments=_plugin_arguments(config.metadata),
        sysctls=dict(config.linux.sysctls),
        cgroup_parent=config.linux.cgroup_parent,
        privileged=security.privileged,
        request=request.SerializeToString(deterministic=True),
    )


def _plugin_arguments(metadata: v1.PodSandboxMetadata) -> dict[str, str]:
    """Return the arguments that CNI plugins for Kubernetes read."""
    return {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": metadata.namespace,
        "K8S_POD_NAME": metadata.name,
        "K8S_POD_UID": metadata.uid,
    }


def _bindings(config: v1.PodSandboxConfig) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the ports of the host by those of the pod; a mapping without one is none."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for one in config.port_mappings:
        if one.host_port:
            port = f"{one.container_port}/{known(_PROTOCOLS, one.protocol, 'protocol')}"
            found[port] = (*found.get(port, ()), (one.host_ip, str(one.host_port)))
    return found
