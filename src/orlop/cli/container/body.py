"""From the options of run and create to the body of POST /containers/create. All pure,
but for the files and variables that options name.
"""

from __future__ import annotations

from orlop.cli import values
from orlop.cli.container import mounts, resources
from orlop.cli.container.environment import environment, lines_of
from orlop.errors import InvalidArgumentError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orlop.cli.container.flags import ContainerArguments

_STREAMS = ("stdin", "stdout", "stderr")


def create_body(args: ContainerArguments, *, attached: bool) -> dict[str, Any]:
    """Return the body; InvalidArgumentError for what cannot be read.

    *attached*: the streams will be, by whoever makes the container.
    """
    if args.gpus:
        raise UnsupportedError("--gpus is not supported", hint="give it devices with --device")
    try:
        body = _config(args, attached=attached)
        body["HostConfig"] = _host_config(args)
        _add_networks(body, args)
        binds, anonymous = mounts.volumes(args.volume)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot read {error.filename}: {reason}") from None
    if binds:
        body["HostConfig"]["Binds"] = binds
    if anonymous:
        body["Volumes"] = anonymous
    return body


def streams_of(args: ContainerArguments, *, attached: bool) -> list[str]:
    """Return which of stdin, stdout and stderr to attach."""
    wanted = [stream.lower() for stream in args.attach]
    for stream in wanted:
        if stream not in _STREAMS:
            raise InvalidArgumentError(
                f"invalid value {stream!r} for --attach", hint=f"one of {', '.join(_STREAMS)}"
            )
    if wanted:
        return wanted
    if not attached:
        return []
    return list(_STREAMS) if args.interactive else ["stdout", "stderr"]


def _config(args: ContainerArguments, *, attached: bool) -> dict[str, Any]:
    streams = streams_of(args, attached=attached)
    config: dict[str, Any] = {
        "Image": args.image,
        "Cmd": args.command or None,
        "Env": environment(args.env, args.env_file),
        "Tty": args.tty,
        "OpenStdin": args.interactive,
        "StdinOnce": args.interactive and "stdin" in streams,
        "AttachStdin": "stdin" in streams,
        "AttachStdout": "stdout" in streams,
        "AttachStderr": "stderr" in streams,
        "User": args.user,
        "WorkingDir": args.workdir,
        "Hostname": args.hostname,
        "Domainname": args.domainname,
        "StopSignal": args.stop_signal,
        "Labels": _labels(args),
    }
    if args.entrypoint is not None:
        config["Entrypoint"] = [args.entrypoint]
    if args.stop_timeout is not None:
        config["StopTimeout"] = args.stop_timeout
    health = _health(args)
    if health:
        config["Healthcheck"] = health
    if args.expose or args.publish:
        from orlop.cli.container.ports import exposed

        config["ExposedPorts"] = exposed(args.expose, args.publish)
    return config


def _labels(args: ContainerArguments) -> dict[str, str]:
    lines = [line for path in args.label_file for line in lines_of(path)]
    return values.key_values(lines + args.label, option="--label")


def _health(args: ContainerArguments) -> dict[str, Any]:
    times = {
        "Interval": args.health_interval,
        "Timeout": args.health_timeout,
        "StartPeriod": args.health_start_period,
        "StartInterval": args.health_start_interval,
        "Retries": args.health_retries,
    }
    health: dict[str, Any] = {name: value for name, value in times.items() if value is not None}
    if args.no_healthcheck:
        if health or args.health_cmd is not None:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if args.health_cmd:
        health["Test"] = ["CMD-SHELL", args.health_cmd]
    return health


def _host_config(args: ContainerArguments) -> dict[str, Any]:
    host: dict[str, Any] = {
        "AutoRemove": args.rm,
        "RestartPolicy": resources.restart_policy(args.restart),
        "Privileged": args.privileged,
        "ReadonlyRootfs": args.read_only,
        "IpcMode": args.ipc,
        "PidMode": args.pid,
        "UTSMode": args.uts,
        "CgroupnsMode": args.cgroupns,
        "UsernsMode": args.userns,
        "LogConfig": {
            "Type": args.log_driver,
            "Config": values.key_values(args.log_opt, option="--log-opt"),
        },
        **resources.limits(args),
    }
    if args.rm and args.restart not in ("", "no"):
        raise ValueError("--rm conflicts with --restart")
    host.update({key: value for key, value in _optional(args).items() if value})
    if args.egress:
        host["Egress"] = [] if args.egress == ["none"] else args.egress
    if args.init:
        host["Init"] = True
    if args.tty:
        from orlop.cli.terminal import console_size

        host["ConsoleSize"] = console_size()
    return host


def _optional(args: ContainerArguments) -> dict[str, Any]:
    """What is sent only where it was asked for."""
    options: dict[str, Any] = {
        "CapAdd": args.cap_add,
        "CapDrop": args.cap_drop,
        "SecurityOpt": [_security_option(option) for option in args.security_opt],
        "GroupAdd": args.group_add,
        "OomScoreAdj": args.oom_score_adj,
        "Mounts": [mounts.mount(value) for value in args.mount],
        "Tmpfs": mounts.tmpfs(args.tmpfs),
        "VolumesFrom": args.volumes_from,
        "VolumeDriver": args.volume_driver,
        "ShmSize": args.shm_size,
        "StorageOpt": values.key_values(args.storage_opt, option="--storage-opt"),
        "Sysctls": values.key_values(args.sysctl, option="--sysctl"),
        "Annotations": values.key_values(args.annotation, option="--annotation"),
        "Runtime": args.runtime,
        "Dns": args.dns,
        "DnsSearch": args.dns_search,
        "DnsOptions": args.dns_option,
        "PublishAllPorts": args.publish_all,
    }
    if args.publish:
        from orlop.cli.container.ports import bindings

        options["PortBindings"] = bindings(args.publish)
    return options


def _add_networks(body: dict[str, Any], args: ContainerArguments) -> None:
    """Add what is asked of networks; one by its name alone, as is usual, needs no more code."""
    network = args.network[0] if args.network else "default"
    special = (args.network_alias, args.link, args.link_local_ip, args.add_host)
    more = (args.ip, args.ip6, args.mac_address, args.bandwidth, *special)
    if len(args.network) <= 1 and network and "=" not in network and not any(more):
        body["HostConfig"]["NetworkMode"] = network
        return
    from orlop.cli.container.networking import bandwidth, extra_host, networking

    host, endpoints = networking(args)
    body["HostConfig"].update(host)
    if endpoints:
        body["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    if args.add_host:
        body["HostConfig"]["ExtraHosts"] = [extra_host(value) for value in args.add_host]
    if args.bandwidth:
        body["HostConfig"]["Bandwidth"] = bandwidth(args.bandwidth)


def _security_option(option: str) -> str:
    """Put a seccomp profile in place of its file's name: the engine reads no files of ours."""
    key, _, value = option.partition("=")
    if key != "seccomp" or value in ("unconfined", "builtin", ""):
        return option
    with open(value, encoding="utf-8") as file:
        return f"seccomp={file.read()}"
