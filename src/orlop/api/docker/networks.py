"""Networks: create, list, inspect, remove; connect and disconnect containers."""

from orlop.api.docker.answers import NO_CONTENT, filters_of, json
from orlop.api.docker.parse_network import parse_endpoint, parse_network_create
from orlop.api.docker.render_network import render_network
from orlop.api.docker.routing import Call
from orlop.api.docker.wire import NetworkConnect, NetworkCreate, NetworkDisconnect, read_json
from orlop.api.messages import Reply, Response
from orlop.engine.networks.filters import select
from orlop.errors import InvalidArgumentError, NotFoundError


async def list_networks(call: Call) -> Reply:
    """GET /networks."""
    networks = call.engine.networks
    filters = filters_of(call.request)
    found = select(networks.list(), filters, in_use=lambda n: bool(networks.attached(n)))
    return json([render_network(n) for n in sorted(found, key=lambda network: network.name)])


async def create(call: Call) -> Reply:
    """POST /networks/create."""
    body = await read_json(call.request, NetworkCreate)
    network, warnings = await call.engine.networks.create(parse_network_create(body))
    return json({"Id": network.id, "Warning": "\n".join(warnings)}, status=201)


async def inspect(call: Call) -> Reply:
    """GET /networks/{name}. verbose has no effect, because there are no services."""
    if call.query.text("scope") not in ("", "local"):
        raise NotFoundError(f"network {call.name} not found")
    network = call.engine.networks.find(call.name)
    return json(render_network(network, call.engine.networks.attached(network)))


async def remove(call: Call) -> Reply:
    """DELETE /networks/{name}."""
    await call.engine.networks.remove(call.name)
    return NO_CONTENT


async def prune(call: Call) -> Reply:
    """POST /networks/prune."""
    removed = await call.engine.networks.prune(filters_of(call.request))
    return json({"NetworksDeleted": list(removed) or None})


async def connect(call: Call) -> Reply:
    """POST /networks/{name}/connect."""
    body = await read_json(call.request, NetworkConnect)
    options = parse_endpoint(body.endpoint_config)
    await call.engine.networks.connect(call.name, _container(body.container), options)
    return Response(200)


async def disconnect(call: Call) -> Reply:
    """POST /networks/{name}/disconnect; Force too: no container leaves endpoints when it goes."""
    body = await read_json(call.request, NetworkDisconnect)
    await call.engine.networks.disconnect(call.name, _container(body.container))
    return Response(200)


def _container(ref: str | None) -> str:
    if not ref:
        raise InvalidArgumentError('invalid name or ID supplied: ""')
    return ref
