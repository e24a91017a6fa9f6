"""Volumes: create, list, look at, remove."""

from orlop.api.docker.answers import NO_CONTENT, filters_of, json
from orlop.api.docker.render_image import render_pruned, render_volume
from orlop.api.docker.routing import Call
from orlop.api.docker.wire import VolumeCreate, read_json
from orlop.api.messages import Reply


async def list_volumes(call: Call) -> Reply:
    """GET /volumes."""
    volumes = call.engine.volumes.list(filters_of(call.request))
    return json({"Volumes": [render_volume(v) for v in volumes], "Warnings": None})


async def create(call: Call) -> Reply:
    """POST /volumes/create. An existing volume is returned too."""
    body = await read_json(call.request, VolumeCreate)
    volume = await call.engine.volumes.create(
        body.name or "",
        driver=body.driver or "local",
        options=body.driver_opts or {},
        labels=body.labels or {},
    )
    return json(render_volume(volume), status=201)


async def inspect(call: Call) -> Reply:
    """GET /volumes/{name}."""
    return json(render_volume(call.engine.volumes.get(call.name)))


async def remove(call: Call) -> Reply:
    """DELETE /volumes/{name}."""
    await call.engine.volumes.remove(call.name, force=call.query.flag("force"))
    return NO_CONTENT


async def prune(call: Call) -> Reply:
    """POST /volumes/prune."""
    pruned = await call.engine.volumes.prune(filters_of(call.request))
    return json(render_pruned(pruned, "VolumesDeleted"))
