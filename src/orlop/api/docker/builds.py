"""Builds: POST /build, as docker's CLI without buildx, docker-py and compose ask for it."""

import base64
import binascii
import contextlib
from typing import Any

from orlop.api.docker import wire
from orlop.api.docker.answers import filters_of, json, to_credentials
from orlop.api.docker.lines import Lines
from orlop.api.docker.parse_resources import parse_resources
from orlop.api.docker.routing import Call
from orlop.api.messages import Query, Reply, Request
from orlop.engine.builds.request import BuildEvent, BuildRequest
from orlop.engine.requests import Credentials
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.reference import new_name

_HUB = "docker.io"
_HUB_KEYS = frozenset({"https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"})
_SHORT = 12


async def build(call: Call) -> Reply:
    """POST /build: the context is the body, a tar; the answer a stream of JSON lines."""
    request = parse_build(call.query, call.request)
    quiet, tells_events = call.query.flag("q"), call.query.flag("events")
    lines = Lines()

    async def tell(event: BuildEvent) -> None:
        text = "" if quiet else _rendered(event)
        if tells_events:
            await lines.put({"build": render_event(event)})
        elif text:
            await lines.put({"stream": text})

    async def work() -> None:
        image = await call.engine.builds.build(request, call.request.body, tell)
        await lines.put({"aux": {"ID": image}})
        if tells_events:
            return
        if quiet:
            await lines.put({"stream": f"{image}\n"})
            return
        short = image.partition(":")[2][:_SHORT]
        await lines.put({"stream": f"Successfully built {short}\n"})
        for name in request.tags:
            await lines.put({"stream": f"Successfully tagged {name.familiar}\n"})

    return await lines.reply(work())


def _rendered(event: BuildEvent) -> str:
    if event.kind == "step":
        return f"Step {event.number}/{event.total} : {event.text}\n"
    if event.kind == "output":
        return event.data.decode(errors="replace")
    if event.kind == "cached":
        return " ---> Using cache\n"
    return f"{event.text}\n" if event.text else ""


def render_event(event: BuildEvent) -> dict[str, object]:
    """Return the event as clients of events=1 get it: what is empty is left out."""
    text = event.data.decode(errors="replace") if event.data else event.text
    shape = {
        "kind": event.kind,
        "number": event.number,
        "total": event.total,
        "stage": event.stage,
        "text": text,
        "why": event.why,
    }
    shown: dict[str, object] = {name: value for name, value in shape.items() if value}
    return {**shown, "seconds": round(event.seconds, 3)} if event.kind == "done" else shown


async def prune(call: Call) -> Reply:
    """POST /build/prune: remove what the cache need not keep."""
    pruned = await call.engine.builds.prune(
        filters_of(call.request),
        everything=call.query.flag("all"),
        keep_bytes=call.query.integer("keep-storage") or 0,
    )
    return json({"CachesDeleted": list(pruned.names) or None, "SpaceReclaimed": pruned.reclaimed})


def _secrets(request: Request) -> dict[str, bytes]:
    """Decode X-Orlop-Build-Secrets: base64url of JSON, base64 by id."""
    text = request.headers.get("x-orlop-build-secrets", "")
    if not text:
        return {}
    try:
        decoded = wire.decode(base64.urlsafe_b64decode(text), dict[str, str], what="the secrets")
        return {name: base64.b64decode(value) for name, value in decoded.items()}
    except (binascii.Error, ValueError):
        raise InvalidArgumentError("X-Orlop-Build-Secrets is not base64") from None


def parse_build(query: Query, request: Request) -> BuildRequest:
    """Return what the parameters of a build ask for. InvalidArgumentError, UnsupportedError."""
    if query.text("remote"):
        raise UnsupportedError(
            "building from a URL is not supported", hint="clone it, and build from the folder"
        )
    if query.flag("squash"):
        raise UnsupportedError("--squash is not supported", hint="use a second stage")
    if query.text("version", "1") not in ("", "1"):
        raise UnsupportedError("BuildKit is not supported", hint="set DOCKER_BUILDKIT=0")
    limits = wire.Resources(
        memory=query.integer("memory") or 0,
        memory_swap=query.integer("memswap") or 0,
        cpu_shares=query.integer("cpushares") or 0,
        cpu_period=query.integer("cpuperiod") or 0,
        cpu_quota=query.integer("cpuquota") or 0,
        cpuset_cpus=query.text("cpusetcpus"),
        cpuset_mems=query.text("cpusetmems"),
        ulimits=_decoded(query, "ulimits", list[wire.Ulimit] | None),
    )
    given = _decoded(query, "buildargs", dict[str, str | None] | None) or {}
    return BuildRequest(
        dockerfile=query.text("dockerfile") or "Dockerfile",
        tags=tuple(dict.fromkeys(new_name(text) for text in query.texts("t") if text)),
        arguments={name: value for name, value in given.items() if value is not None},
        labels=_decoded(query, "labels", dict[str, str] | None) or {},
        target=query.text("target"),
        no_cache=query.flag("nocache"),
        pull=query.flag("pull"),
        platform=query.text("platform"),
        network=query.text("networkmode") or "default",
        resources=parse_resources(limits),
        shm_size_bytes=query.integer("shmsize") or 64 << 20,
        extra_hosts=_hosts(query),
        cgroup_parent=query.text("cgroupparent"),
        credentials=_credentials(request),
        secrets=_secrets(request),
    )


def _hosts(query: Query) -> tuple[str, ...]:
    """Return the extra hosts: a list in JSON, or as older clients send them, with commas."""
    text = query.text("extrahosts")
    if text.startswith("["):
        return tuple(_decoded(query, "extrahosts", list[str]) or ())
    return tuple(filter(None, text.split(",")))


def _decoded(query: Query, name: str, kind: Any) -> Any:
    text = query.text(name)
    return wire.decode(text.encode(), kind, what=f"parameter {name}") if text else None


def _credentials(request: Request) -> dict[str, Credentials]:
    """Decode X-Registry-Config: base64url of JSON, credentials by registry."""
    text = request.headers.get("x-registry-config", "")
    if not text:
        return {}
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise InvalidArgumentError("X-Registry-Config is not base64") from None
    decoded = wire.decode(data, dict[str, wire.AuthConfig], what="X-Registry-Config")
    found: dict[str, Credentials] = {}
    for key, auth in decoded.items():
        with contextlib.suppress(InvalidArgumentError):
            if (credentials := to_credentials(auth)) is not None:
                found[_HUB if key in _HUB_KEYS else _host(key)] = credentials
    return found


def _host(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]
