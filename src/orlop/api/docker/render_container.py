"""From the engine's containers to the shapes of Docker's API."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from orlop.api.docker.render_config import render_config, render_host_config, render_mounts
from orlop.api.docker.render_network import (
    Networks,
    render_networks,
    render_ports,
    render_settings,
)
from orlop.api.docker.times import rfc3339, span
from orlop.engine.answers import ContainerSize
from orlop.model.container import Container, Event, Exec, HealthState, Status

Shape = dict[str, Any]


def render_summary(
    container: Container,
    *,
    volumes: Path,
    networks: Networks,
    size: ContainerSize | None = None,
    now_ns: int | None = None,
) -> Shape:
    """Return an item of GET /containers/json. *volumes* is the folder that volumes are under."""
    options = container.options
    shape: Shape = {
        "Id": container.id,
        "Names": ["/" + container.name],
        "Image": container.image_name,
        "ImageID": container.image,
        "Command": " ".join((container.path, *map(_quoted, container.args))),
        "Created": container.created_ns // 1_000_000_000,
        "Ports": render_ports(container),
        "Labels": options.labels,
        "State": container.status.value,
        "Status": status_words(container, time.time_ns() if now_ns is None else now_ns),
        "HostConfig": {"NetworkMode": options.network},
        "NetworkSettings": {"Networks": render_networks(container, networks)},
        "Mounts": render_mounts(container.mounts, volumes=volumes),
    }
    if size is not None:
        shape |= {"SizeRw": size.writable, "SizeRootFs": size.total}
    return shape


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word else word


def status_words(container: Container, now_ns: int) -> str:
    """Return what `docker ps` shows as STATUS."""
    up = span(now_ns - container.started_ns)
    ago = span(now_ns - container.finished_ns)
    match container.status:
        case Status.PAUSED:
            return f"Up {up} (Paused)"
        case Status.RUNNING:
            return f"Up {up}{_health_words(container.health)}"
        case Status.RESTARTING:
            return f"Restarting ({container.exit_code}) {ago} ago"
        case Status.CREATED:
            return "Created"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
    return f"Exited ({container.exit_code}) {ago} ago"


def _health_words(health: HealthState | None) -> str:
    if health is None:
        return ""
    return " (health: starting)" if health.status == "starting" else f" ({health.status})"


class Surroundings(NamedTuple):
    """What inspect shows of a container that its record does not say."""

    #: The host's paths of files like /etc/hosts, by their paths in the container.
    files: Mapping[str, str] = MappingProxyType({})
    execs: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()  # names and aliases of other containers


_ALONE = Surroundings()


def render_container(
    container: Container,
    *,
    volumes: Path,
    networks: Networks,
    around: Surroundings = _ALONE,
    size: ContainerSize | None = None,
) -> Shape:
    """Return GET /containers/{id}/json. *volumes* is the folder that volumes are under."""
    shape: Shape = {
        "Id": container.id,
        "Created": rfc3339(container.created_ns),
        "Path": container.path,
        "Args": container.args,
        "State": _state(container),
        "Image": container.image,
        "ResolvConfPath": around.files.get("/etc/resolv.conf", ""),
        "HostnamePath": around.files.get("/etc/hostname", ""),
        "HostsPath": around.files.get("/etc/hosts", ""),
        "LogPath": container.log_path if container.options.log.driver == "json-file" else "",
        "Name": "/" + container.name,
        "RestartCount": container.restart_count,
        "Driver": container.driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": around.execs or None,
        "HostConfig": render_host_config(container, around.links),
        "GraphDriver": {"Name": container.driver, "Data": None},
        "Mounts": render_mounts(container.mounts, volumes=volumes),
        "Config": render_config(container),
        "NetworkSettings": render_settings(container, networks),
    }
    if size is not None:
        shape |= {"SizeRw": size.writable, "SizeRootFs": size.total}
    return shape


def _state(container: Container) -> Shape:
    status = container.status
    state: Shape = {
        "Status": status.value,
        "Running": container.running or status is Status.RESTARTING,
        "Paused": status is Status.PAUSED,
        "Restarting": status is Status.RESTARTING,
        "OOMKilled": container.oom_killed,
        "Dead": status is Status.DEAD,
        "Pid": container.pid if container.running else 0,
        "ExitCode": container.exit_code,
        "Error": container.error,
        "StartedAt": rfc3339(container.started_ns),
        "FinishedAt": rfc3339(container.finished_ns),
    }
    if container.health is not None:
        state["Health"] = _health(container.health)
    return state


def _health(health: HealthState) -> Shape:
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": rfc3339(result.start_ns),
                "End": rfc3339(result.end_ns),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.log
        ],
    }


def render_exec(process: Exec) -> Shape:
    """Return GET /exec/{id}/json."""
    options = process.options
    return {
        "ID": process.id,
        "Running": process.running,
        "ExitCode": process.exit_code,
        "ProcessConfig": {
            "tty": options.terminal,
            "entrypoint": options.command[0],
            "arguments": options.command[1:],
            "privileged": options.privileged,
            "user": options.user,
        },
        "OpenStdin": options.attach_stdin,
        "OpenStderr": options.attach_stderr,
        "OpenStdout": options.attach_stdout,
        "CanRemove": not process.running and process.exit_code is not None,
        "ContainerID": process.container,
        "DetachKeys": options.detach_keys,
        "Pid": process.pid,
        **({"Usage": process.usage} if process.usage else {}),
        **({"TimedOut": True} if process.timed_out else {}),
        **({"OOMKilled": True} if process.oom_killed else {}),
        **({"Steps": process.steps} if process.steps else {}),
    }


def render_event(event: Event) -> Shape:
    """Return a line of GET /events, with the fields that older clients read too."""
    shape: Shape = {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }
    if event.type in ("container", "image"):
        shape |= {"status": event.action, "id": event.id}
    if event.type == "container" and "image" in event.attributes:
        shape["from"] = event.attributes["image"]
    return shape
