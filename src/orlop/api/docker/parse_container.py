"""Parse create, update and exec bodies to the engine's options."""

import shlex
from collections.abc import Sequence
from typing import Literal, cast

from msgspec.structs import replace

from orlop.api.docker import wire
from orlop.api.docker.parse_log import parse_log
from orlop.api.docker.parse_mounts import parse_mounts
from orlop.api.docker.parse_network import with_network
from orlop.api.docker.parse_resources import parse_resources
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import ContainerOptions, ExecOptions, Health, RestartPolicy
from orlop.model.image import SHORTEST_CHECK_NS
from orlop.model.sizes import parse_limit

_LONGEST_S = 1e9
_RESTARTS = ("no", "always", "unless-stopped", "on-failure")
#: The names that clients may give the runtime: `vm` is a virtual machine, each other one means
#: Orlop's own, and the first is the default.
RUNTIMES = ("orlop", "runc", "io.containerd.runc.v2", "vm")


def parse_create(body: wire.Create, *, platform: str = "") -> ContainerOptions:
    """Return the options in *body*."""
    host = body.host_config or wire.HostConfig()
    if not body.image:
        raise InvalidArgumentError("no image specified")
    _refuse_what_is_not_there(host)
    options = ContainerOptions(
        platform=platform,
        health=parse_health(body.healthcheck),
        volumes=tuple(body.volumes or ()),
        auto_remove=bool(host.auto_remove),
        restart=parse_restart(host.restart_policy),
        log=parse_log(host.log_config),
        mounts=parse_mounts(host),
        volumes_from=tuple(host.volumes_from or ()),
        resources=parse_resources(host),
        annotations=host.annotations or {},
        disk_bytes=_disk_bytes(host.storage_opt or {}),
        console_size=parse_console_size(host.console_size),
        runtime=host.runtime or "",
    )
    if options.auto_remove and options.restart.name not in ("no", "unless-stopped"):
        raise InvalidArgumentError("cannot restart a container that is removed when it stops")
    options = _with_process(options, body)
    return with_network(_with_isolation(options, host), body, host)


def _refuse_what_is_not_there(host: wire.HostConfig) -> None:
    if host.device_requests:
        raise UnsupportedError("device requests (--gpus) are not supported")
    if host.runtime and host.runtime not in RUNTIMES:
        raise InvalidArgumentError(
            f"unknown or invalid runtime name: {host.runtime[:200]}",
            hint="expected one of " + ", ".join(RUNTIMES),
        )


def _disk_bytes(options: dict[str, str]) -> int | None:
    """Return the size of --storage-opt size=10g; 0 for -1, which means no limit."""
    for key in options.keys() - {"size"}:
        raise InvalidArgumentError(
            f"unknown storage option {key[:200]!r}", hint="there is size=10g"
        )
    return parse_limit(options["size"], "storage option size") if "size" in options else None


def _working_dir(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidArgumentError(
            f"the working directory {path[:200]!r} is invalid, it needs to be an absolute path"
        )
    return path


def _with_process(options: ContainerOptions, body: wire.Create) -> ContainerOptions:
    """Add the options of the process."""
    return replace(
        options,
        image=body.image or "",
        command=parse_words(body.cmd),
        entrypoint=_entrypoint(body.entrypoint),
        environment=environment_of(body.env or ()),
        user=body.user or "",
        working_dir=_working_dir(body.working_dir or ""),
        hostname=body.hostname or "",
        domainname=body.domainname or "",
        terminal=bool(body.tty),
        open_stdin=bool(body.open_stdin),
        stdin_once=bool(body.stdin_once),
        attach_stdin=bool(body.attach_stdin),
        attach_stdout=bool(body.attach_stdout),
        attach_stderr=bool(body.attach_stderr),
        labels=body.labels or {},
        stop_signal=body.stop_signal or "",
        stop_timeout_s=body.stop_timeout,
    )


def _with_isolation(options: ContainerOptions, host: wire.HostConfig) -> ContainerOptions:
    """Add the options about isolation."""
    return replace(
        options,
        init=bool(host.init),
        privileged=bool(host.privileged),
        read_only=bool(host.readonly_rootfs),
        cap_add=parse_words(host.cap_add) or (),
        cap_drop=parse_words(host.cap_drop) or (),
        security_opt=tuple(host.security_opt or ()),
        group_add=tuple(host.group_add or ()),
        oom_score_adj=host.oom_score_adj or 0,
        masked_paths=_paths(host.masked_paths),
        readonly_paths=_paths(host.readonly_paths),
        shm_size_bytes=_shm_size(host.shm_size or 0),
        sysctls=host.sysctls or {},
        ipc=host.ipc_mode or "",
        pid=host.pid_mode or "",
        uts=host.uts_mode or "",
        cgroupns=host.cgroupns_mode or "",
        userns=host.userns_mode or "",
        cgroup_parent=host.cgroup_parent or "",
    )


def parse_words(words: wire.Words | None) -> tuple[str, ...] | None:
    """Return the words; None if there are none, which means the image's."""
    if isinstance(words, str):
        words = shlex.split(words)
    if any("\0" in word for word in words or ()):
        raise InvalidArgumentError("a command cannot have a NUL byte")
    return tuple(words) if words else None


def _entrypoint(words: wire.Words | None) -> tuple[str, ...] | None:
    """Like parse_words, but one empty word means "no entry point"."""
    return () if words in ([""], "") and words is not None else parse_words(words)


def _paths(paths: list[str] | None) -> tuple[str, ...] | None:
    return None if paths is None else tuple(paths)


def _shm_size(size: int) -> int:
    if size < 0:
        raise InvalidArgumentError(f"the size of /dev/shm cannot be {size}")
    return size or 64 << 20


def parse_health(body: wire.Healthcheck | None) -> Health | None:
    """Return the health check; None for the image's."""
    if body is None:
        return None
    health = Health(
        test=tuple(body.test or ()),
        interval_ns=body.interval or 0,
        timeout_ns=body.timeout or 0,
        start_period_ns=body.start_period or 0,
        start_interval_ns=body.start_interval or 0,
        retries=body.retries or 0,
    )
    if health.test and health.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidArgumentError(
            f"invalid health check {health.test[0]!r}", hint="expected NONE, CMD or CMD-SHELL"
        )
    for name, value in (
        ("interval", health.interval_ns),
        ("timeout", health.timeout_ns),
        ("start period", health.start_period_ns),
        ("start interval", health.start_interval_ns),
    ):
        if value and value < SHORTEST_CHECK_NS:
            raise InvalidArgumentError(f"health check {name} cannot be less than 1 ms")
        if value >= 1 << 63:
            raise InvalidArgumentError(f"health check {name} is too long")
    if health.retries < 0:
        raise InvalidArgumentError("health check retries cannot be negative")
    return health


def parse_restart(body: wire.RestartPolicy | None) -> RestartPolicy:
    """Return the restart policy; the default is "no"."""
    name = (body.name if body else "") or "no"
    retries = (body.maximum_retry_count if body else 0) or 0
    if name not in _RESTARTS:
        raise InvalidArgumentError(
            f"invalid restart policy {name!r}", hint="expected one of " + ", ".join(_RESTARTS)
        )
    if retries < 0 or (retries and name != "on-failure"):
        raise InvalidArgumentError(f"restart policy {name} cannot have {retries} retries")
    policy = cast(Literal["no", "always", "unless-stopped", "on-failure"], name)
    return RestartPolicy(name=policy, maximum_retry_count=retries)


def parse_console_size(size: Sequence[int] | None) -> tuple[int, int] | None:
    """Return height and width of the client's terminal, None if not given."""
    if size is None:
        return None
    if len(size) != 2 or not all(0 <= n < 65536 for n in size):
        raise InvalidArgumentError("ConsoleSize must be a terminal's height and width")
    return (size[0], size[1]) if all(size) else None


def parse_exec(body: wire.ExecCreate) -> ExecOptions:
    """Return the options in an exec body."""
    command = parse_words(body.cmd)
    if not command:
        raise InvalidArgumentError("no exec command specified")
    limit_s = body.timeout or 0.0
    if not 0 <= limit_s < _LONGEST_S:
        raise InvalidArgumentError(f"invalid timeout {limit_s!r}")
    return ExecOptions(
        command=command,
        user=body.user or "",
        environment=environment_of(body.env or ()),
        working_dir=body.working_dir or "",
        privileged=bool(body.privileged),
        terminal=bool(body.tty),
        console_size=parse_console_size(body.console_size),
        attach_stdin=bool(body.attach_stdin),
        attach_stdout=bool(body.attach_stdout),
        attach_stderr=bool(body.attach_stderr),
        detach_keys=body.detach_keys or "",
        grouped=bool(body.group),
        limit_s=limit_s,
    )


def environment_of(words: Sequence[str]) -> tuple[str, ...]:
    """Return *words* if each is NAME=VALUE or NAME."""
    for word in words:
        if word.startswith("=") or "\0" in word:
            raise InvalidArgumentError(f"invalid environment variable {word[:100]!r}")
    return tuple(words)
