"""From the engine's containers to the CRI's."""

from orlop.api.cri import v1
from orlop.engine.answers import ImageRecord
from orlop.model.container import Container, Resources, Status

_STATES = {Status.RUNNING: v1.CONTAINER_RUNNING, Status.PAUSED: v1.CONTAINER_RUNNING}
_FAILED_START = 128


def state_of(container: Container) -> v1.ContainerState:
    """Return the state; a container whose start has failed has ended."""
    if container.status == Status.CREATED:
        return v1.CONTAINER_EXITED if container.error else v1.CONTAINER_CREATED
    return _STATES.get(container.status, v1.CONTAINER_EXITED)


def render_container(container: Container) -> v1.Container:
    """Return a container as ListContainers tells it."""
    config = _asked(container)
    return v1.Container(
        id=container.id,
        pod_sandbox_id=container.options.pod,
        metadata=config.metadata,
        image=config.image,
        image_ref=container.image,
        image_id=container.image,
        state=state_of(container),
        created_at=container.created_ns,
        labels=config.labels,
        annotations=config.annotations,
    )


def render_status(container: Container, image: ImageRecord | None) -> v1.ContainerStatus:
    """Return a container as ContainerStatus tells it; *image* is None if it has been removed."""
    config = _asked(container)
    reason, message = _reason(container)
    has_ended = state_of(container) == v1.CONTAINER_EXITED
    return v1.ContainerStatus(
        id=container.id,
        metadata=config.metadata,
        state=state_of(container),
        created_at=container.created_ns,
        started_at=container.started_ns,
        finished_at=(container.finished_ns or container.created_ns) if has_ended else 0,
        exit_code=container.exit_code,
        image=config.image,
        image_ref=image.digests[0] if image and image.digests else container.image,
        image_id=container.image,
        reason=reason,
        message=message,
        labels=config.labels,
        annotations=config.annotations,
        mounts=config.mounts,
        log_path=container.log_path,
        resources=v1.ContainerResources(linux=_resources(container)),
        stop_signal=_stop_signal(container.options.stop_signal),
    )


def _asked(container: Container) -> v1.ContainerConfig:
    return v1.ContainerConfig.FromString(container.options.request)


def _reason(container: Container) -> tuple[str, str]:
    """Return why it is not running, in one word of Kubernetes' and in a sentence."""
    if state_of(container) != v1.CONTAINER_EXITED:
        return "", ""
    if container.oom_killed:
        return "OOMKilled", container.error
    if container.error and not container.started_ns:
        return "StartError", container.error
    return "Completed" if container.exit_code == 0 else "Error", container.error


def _resources(container: Container) -> v1.LinuxContainerResources:
    limits: Resources = container.options.resources
    return v1.LinuxContainerResources(
        cpu_period=limits.cpu_period_us or 0,
        cpu_quota=limits.cpu_quota_us or 0,
        cpu_shares=limits.cpu_shares or 0,
        memory_limit_in_bytes=limits.memory_bytes or 0,
        memory_swap_limit_in_bytes=limits.memory_swap_bytes or 0,
        oom_score_adj=container.options.oom_score_adj,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        hugepage_limits=[
            v1.HugepageLimit(page_size=size, limit=value)
            for size, value in limits.hugepage_bytes.items()
        ],
        unified=limits.unified,
    )


def _stop_signal(signal: str) -> str:
    """Return a signal as the CRI calls it; RUNTIME_DEFAULT for one that it has not."""
    text = signal.upper().replace("+", "PLUS").replace("-", "MINUS") or "SIGTERM"
    name = text if text.startswith("SIG") else f"SIG{text}"
    return name if name in v1.Signal.keys() else "RUNTIME_DEFAULT"  # noqa: SIM118 - not a mapping
