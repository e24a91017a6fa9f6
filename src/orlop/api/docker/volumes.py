"""Volumes, and the two networks that there are without any set-up."""

from typing import Any

from orlop.api.docker.answers import NO_CONTENT, filters_of, json
from orlop.api.docker.render_image import render_pruned, render_volume
from orlop.api.docker.routing import Call
from orlop.api.docker.times import ZERO
from orlop.api.docker.wire import VolumeCreate, read_json
from orlop.api.messages import Reply
from orlop.errors import NotFoundError, UnsupportedError

_NETWORKS = {"none": "null", "host": "host"}


async def list_volumes(call: Call) -> Reply:
    """GET /volumes."""
    volumes = call.engine.volumes.list(filters_of(call.request))
    return json({"Volumes": [render_volume(v) for v in volumes], "Warnings": None})


async def create(call: Call) -> Reply:
    """POST /volumes/create. The volume that is there already is an answer too."""
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


async def list_networks(call: Call) -> Reply:
    """GET /networks."""
    filters = filters_of(call.request)
    names = filters.get("name", ())
    drivers = filters.get("driver", ())
    return json(
        [
            _network(name)
            for name, driver in _NETWORKS.items()
            if (not names or any(part in name for part in names))
            and (not drivers or driver in drivers)
        ]
    )


async def inspect_network(call: Call) -> Reply:
    """GET /networks/{name}."""
    if call.name not in _NETWORKS:
        raise NotFoundError(f"network {call.name} not found")
    return json(_network(call.name))


async def prune_networks(_call: Call) -> Reply:
    """POST /networks/prune, which `docker system prune` asks for: there are none to remove."""
    return json({"NetworksDeleted": None})


async def no_networks(call: Call) -> Reply:
    """Refuse all that would change networks."""
    raise UnsupportedError(
        "networks other than none and host are not implemented",
        hint="run containers with --network none or --network host",
    )


def _network(name: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Id": name,
        "Created": ZERO,
        "Scope": "local",
        "Driver": _NETWORKS[name],
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }
