"""An image's configuration and a request's options, put together as Docker does."""

import posixpath

from msgspec.structs import replace

from orlop.engine.spec import command
from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions, Health, MountPoint
from orlop.model.image import SHORTEST_CHECK_NS, ImageConfig, Process


def merge(options: ContainerOptions, image: ImageConfig) -> ContainerOptions:
    """Return *options* with all that they leave to the *image* filled in.

    InvalidArgumentError if there is then no command.
    """
    given = image.config
    command(options, given)  # refuses
    takes_command = options.entrypoint is None and not options.command
    return replace(
        options,
        entrypoint=given.entrypoint if options.entrypoint is None else options.entrypoint,
        command=given.cmd if takes_command else options.command or (),
        environment=_environment(given, options),
        user=options.user or given.user,
        working_dir=options.working_dir or given.working_dir,
        domainname=options.domainname or given.domainname,
        labels={**given.labels, **options.labels},
        stop_signal=options.stop_signal or given.stop_signal,
        stop_timeout_s=given.stop_timeout
        if options.stop_timeout_s is None
        else options.stop_timeout_s,
        health=_health(options.health, given),
        exposed_ports=tuple(dict.fromkeys((*given.exposed_ports, *options.exposed_ports))),
        volumes=tuple(dict.fromkeys((*given.volumes, *options.volumes))),
    )


def _environment(image: Process, options: ContainerOptions) -> tuple[str, ...]:
    """The image's variables that the options do not speak of, and then theirs."""
    named = {entry.partition("=")[0] for entry in options.environment}
    own = [entry for entry in image.env if entry.partition("=")[0] not in named]
    return (*options.environment, *own)


def _health(asked: Health | None, image: Process) -> Health | None:
    """What the options leave at 0 or empty is the image's, field by field."""
    check = image.healthcheck
    if check is None:
        return asked
    base = Health(
        test=check.test,
        interval_ns=_time_of_image(check.interval),
        timeout_ns=_time_of_image(check.timeout),
        start_period_ns=_time_of_image(check.start_period),
        start_interval_ns=_time_of_image(check.start_interval),
        retries=max(0, check.retries),
    )
    if asked is None:
        return base
    return Health(
        test=asked.test or base.test,
        interval_ns=asked.interval_ns or base.interval_ns,
        timeout_ns=asked.timeout_ns or base.timeout_ns,
        start_period_ns=asked.start_period_ns or base.start_period_ns,
        start_interval_ns=asked.start_interval_ns or base.start_interval_ns,
        retries=asked.retries or base.retries,
    )


def _time_of_image(time_ns: int) -> int:
    """Return it, or 0 for the default in place of what a request may not have."""
    return time_ns if SHORTEST_CHECK_NS <= time_ns < 1 << 63 else 0


def wanted_mounts(options: ContainerOptions, inherited: list[MountPoint]) -> list[MountPoint]:
    """Return one mount a target: the request's, those of --volumes-from, the image's volumes."""
    chosen: dict[str, MountPoint] = {}
    anonymous = [MountPoint(type="volume", target=target) for target in options.volumes]
    for mount in (*anonymous, *inherited, *options.mounts):
        target = _clean(mount.target)
        if mount in options.mounts and chosen.get(target) in options.mounts:
            raise InvalidArgumentError(f"Duplicate mount point: {target}")
        chosen[target] = replace(mount, target=target)
    return list(chosen.values())


def _clean(target: str) -> str:
    if not target.startswith("/") or "\0" in target:
        raise InvalidArgumentError(
            f"invalid mount path: '{target[:200]}' mount path must be absolute"
        )
    clean = posixpath.normpath("/" + target.lstrip("/"))
    if clean == "/":
        raise InvalidArgumentError("invalid specification: destination can't be '/'")
    return clean
