"""From CRI's ContainerConfig to the engine's options."""

from collections.abc import Iterable
from typing import Literal

from msgspec.structs import replace

from orlop.api.cri import v1
from orlop.api.cri.labels import known, name_of
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import (
    ContainerOptions,
    DeviceMapping,
    Health,
    LogOptions,
    MountPoint,
    Resources,
)

_PROPAGATION: dict[int, str] = {
    v1.PROPAGATION_PRIVATE: "rprivate",
    v1.PROPAGATION_HOST_TO_CONTAINER: "rslave",
    v1.PROPAGATION_BIDIRECTIONAL: "rshared",
}
_POLICIES: dict[int, Literal["", "merge", "strict"]] = {
    v1.Merge: "merge",
    v1.Strict: "strict",
}
_SIGNALS = {number: name for name, number in v1.Signal.items()}
_NO_CHECK = Health(test=("NONE",))  # a kubelet has its own probes


def container_name(config: v1.ContainerConfig, pod: v1.PodSandboxConfig) -> str:
    """Return the engine's name of a container."""
    metadata, of_pod = config.metadata, pod.metadata
    if not metadata.name:
        raise InvalidArgumentError("the container's metadata has no name")
    return name_of(metadata.name, of_pod.name, of_pod.namespace, of_pod.uid, metadata.attempt)


def container_options(config: v1.ContainerConfig, pod: v1.PodSandboxConfig) -> ContainerOptions:
    """Return what a container of *pod* is to be, but for what it shares with the pod."""
    security = config.linux.security_context
    capabilities = security.capabilities
    _refuse_unsupported(config)
    limits = config.linux.resources
    return ContainerOptions(
        image=config.image.image,
        entrypoint=tuple(config.command) or None,
        command=tuple(config.args) or None,
        environment=tuple(f"{one.key}={one.value}" for one in config.envs),
        working_dir=config.working_dir,
        user=_user(security),
        group_add=tuple(map(str, security.supplemental_groups)),
        groups_policy=known(_POLICIES, security.supplemental_groups_policy, "groups policy"),
        stop_signal=_stop_signal(config.stop_signal),
        terminal=config.tty,
        open_stdin=config.stdin,
        stdin_once=config.stdin_once,
        labels=dict(config.labels),
        health=_NO_CHECK,
        log=_log(config, pod),
        privileged=security.privileged,
        read_only=security.readonly_rootfs,
        cap_add=tuple(capabilities.add_capabilities),
        cap_drop=tuple(capabilities.drop_capabilities),
        security_opt=_security(security),
        masked_paths=_paths(config, security.masked_paths),
        readonly_paths=_paths(config, security.readonly_paths),
        pid=_pid(security.namespace_options),
        mounts=tuple(map(_mount, config.mounts)),
        oom_score_adj=limits.oom_score_adj,
        resources=replace(
            limits_of(limits),
            pids_limit=-1,  # the pod's cgroup has one, if the kubelet wants it
            devices=tuple(map(_device, config.devices)),
        ),
        request=_kept(config),
    )


def _refuse_unsupported(config: v1.ContainerConfig) -> None:
    if config.CDI_devices:
        raise UnsupportedError("CDI devices are not supported")
    if config.linux.security_context.capabilities.add_ambient_capabilities:
        raise UnsupportedError("ambient capabilities are not supported")


def limits_of(limits: v1.LinuxContainerResources) -> Resources:
    """Return a container's limits; 0 names none."""
    memory = limits.memory_limit_in_bytes or None
    return Resources(
        memory_bytes=memory,
        memory_swap_bytes=limits.memory_swap_limit_in_bytes or memory,
        cpu_shares=limits.cpu_shares or None,
        cpu_quota_us=limits.cpu_quota or None,
        cpu_period_us=limits.cpu_period or None,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        hugepage_bytes={one.page_size: one.limit for one in limits.hugepage_limits},
        unified=dict(limits.unified),
    )


def _device(device: v1.Device) -> DeviceMapping:
    return DeviceMapping(
        host_path=device.host_path,
        container_path=device.container_path,
        access=device.permissions or "rwm",
    )


def _user(security: v1.LinuxContainerSecurityContext) -> str:
    """Return USER[:GROUP], "" for the image's."""
    user = security.run_as_username
    if security.HasField("run_as_user"):
        user = str(security.run_as_user.value)
    if not security.HasField("run_as_group"):
        return user
    if not user:
        raise InvalidArgumentError("run_as_group needs run_as_user or run_as_username")
    return f"{user}:{security.run_as_group.value}"


def _log(config: v1.ContainerConfig, pod: v1.PodSandboxConfig) -> LogOptions:
    if not config.log_path or not pod.log_directory:
        return LogOptions(driver="none")
    return LogOptions(driver="cri", path=f"{pod.log_directory}/{config.log_path}")


def _security(security: v1.LinuxContainerSecurityContext) -> tuple[str, ...]:
    words = []
    if security.no_new_privs:
        words.append("no-new-privileges")
    if not security.privileged:
        words += _profile("seccomp", security.seccomp)
        if security.HasField("apparmor"):
            words += _profile("apparmor", security.apparmor)
    return tuple(words)


def _profile(kind: str, profile: v1.SecurityProfile) -> list[str]:
    if profile.profile_type == v1.SecurityProfile.Unconfined:
        return [f"{kind}=unconfined"]
    if profile.profile_type == v1.SecurityProfile.Localhost:
        if not profile.localhost_ref:
            raise InvalidArgumentError(f"the {kind} profile Localhost needs a localhost_ref")
        return [f"{kind}={profile.localhost_ref}"]
    return []


def _paths(config: v1.ContainerConfig, given: Iterable[str]) -> tuple[str, ...] | None:
    """Return the paths to hide: what is given, even nothing, if there is a security context."""
    if not config.linux.HasField("security_context"):
        return None
    return () if config.linux.security_context.privileged else tuple(given)


def _pid(modes: v1.NamespaceOption) -> str:
    if modes.pid == v1.NODE:
        return "host"
    if modes.pid == v1.TARGET:
        if not modes.target_id:
            raise InvalidArgumentError("the pid mode TARGET needs a target_id")
        return f"container:{modes.target_id}"
    return "pod" if modes.pid == v1.POD else ""


def _stop_signal(signal: v1.Signal) -> str:
    """Return the signal as the engine knows it: "SIGRTMIN+3"; "" for the image's."""
    if signal == v1.RUNTIME_DEFAULT:
        return ""
    return known(_SIGNALS, signal, "signal").replace("PLUS", "+").replace("MINUS", "-")


def _mount(mount: v1.Mount) -> MountPoint:
    if mount.HasField("image"):
        raise UnsupportedError("image volumes are not supported")
    if mount.uidMappings or mount.gidMappings:
        raise UnsupportedError("mounts with mapped ids are not supported")
    if mount.recursive_read_only and not (
        mount.readonly and mount.propagation == v1.PROPAGATION_PRIVATE
    ):
        raise InvalidArgumentError(
            f"the recursively read-only mount on {mount.container_path[:200]} has to be read-only"
            " and private"
        )
    return MountPoint(
        type="bind",
        target=mount.container_path,
        source=mount.host_path,
        read_only=mount.readonly,
        read_only_top=not mount.recursive_read_only,
        propagation=known(_PROPAGATION, mount.propagation, "propagation"),
        create_host_path=True,
    )


def _kept(config: v1.ContainerConfig) -> bytes:
    """Return what answers about the container need: the rest is in its options."""
    kept = v1.ContainerConfig()
    kept.CopyFrom(config)
    for name in ("envs", "command", "args"):
        kept.ClearField(name)
    return kept.SerializeToString(deterministic=True)
