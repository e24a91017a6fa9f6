"""The engine itself: ping, version, info, events, disk usage, registry login."""

from collections.abc import AsyncIterator

from orlop.api.docker.answers import filters_of, json, to_credentials
from orlop.api.docker.lines import line
from orlop.api.docker.render_container import render_event
from orlop.api.docker.render_system import render_disk_usage, render_info, render_version
from orlop.api.docker.routing import Call
from orlop.api.docker.times import parse_time
from orlop.api.docker.wire import MAX_JSON_BYTES, AuthConfig, decode
from orlop.api.messages import Reply, Response, Stream
from orlop.api.metrics import metrics as answer_metrics
from orlop.errors import InvalidArgumentError, PermissionDeniedError, UnsupportedError
from orlop.model.container import Event

_PING_HEADERS = {
    "Builder-Version": "1",  # not BuildKit, so clients open no session before they ask
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}


async def ping(_call: Call) -> Reply:
    """GET, HEAD /_ping."""
    return Response(200, b"OK", "text/plain; charset=utf-8", _PING_HEADERS)


async def version(_call: Call) -> Reply:
    """GET /version."""
    return json(render_version())


async def info(call: Call) -> Reply:
    """GET /info."""
    return json(render_info(call.engine.system.info()))


async def metrics(call: Call) -> Reply:
    """GET /metrics, for Prometheus."""
    return await answer_metrics(call.engine, call.request)


async def disk_usage(call: Call) -> Reply:
    """GET /system/df."""
    usage = await call.engine.system.disk_usage()
    return json(
        render_disk_usage(
            usage,
            volumes=call.engine.settings.volumes,
            networks={network.id: network for network in call.engine.networks.list()},
        )
    )


async def events(call: Call) -> Reply:
    """GET /events."""
    query = call.query
    happened = call.engine.events.subscribe(
        since_ns=parse_time(query.text("since"), "since"),
        until_ns=parse_time(query.text("until"), "until"),
        filters=filters_of(call.request),
    )
    return Stream(_lines(happened))


async def _lines(happened: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async for event in happened:
        yield line(render_event(event))


async def auth(call: Call) -> Reply:
    """POST /auth: check credentials with a registry."""
    data = await call.request.body.read(MAX_JSON_BYTES)  # any Content-Type, like Docker
    body = decode(data or b"{}", AuthConfig)
    credentials = to_credentials(body)
    if credentials is None:
        raise InvalidArgumentError("no credentials given")
    try:
        token = await call.engine.system.login(credentials)
    except PermissionDeniedError as error:
        return Response.message(401, str(error))
    return json({"Status": "Login Succeeded", "IdentityToken": token})


async def no_build(_call: Call) -> Reply:
    """Refuse to build."""
    raise UnsupportedError(
        "building images is not implemented", hint="build elsewhere, and pull or load the image"
    )


async def no_swarm(_call: Call) -> Reply:
    """Answer as an engine without swarm."""
    return Response.message(503, "this node is not a swarm manager: Orlop has no swarm mode")


async def no_plugins(call: Call) -> Reply:
    """Answer that there are no plugins: an empty list, and nothing to change."""
    if call.request.method == "GET" and call.request.path.endswith("/plugins"):
        return json([])
    raise UnsupportedError("plugins are not supported")
