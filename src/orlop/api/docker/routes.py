"""The table of routes: every path of the API, and its handler."""

from collections.abc import Sequence

from orlop.api.docker import (
    archive,
    attach,
    builds,
    containers,
    execs,
    images,
    networks,
    sandboxes,
    shared_networks,
    stats,
    system,
    templates,
    volumes,
)
from orlop.api.docker.routing import Route

_SWARM = ("nodes", "services", "tasks", "secrets", "configs", "swarm")

SYSTEM: Sequence[Route] = (
    Route("GET", "/_ping", system.ping),
    Route("HEAD", "/_ping", system.ping),
    Route("GET", "/version", system.version),
    Route("GET", "/info", system.info),
    Route("GET", "/events", system.events),
    Route("GET", "/system/df", system.disk_usage),
    Route("GET", "/metrics", system.metrics),
    Route("POST", "/auth", system.auth),
)

CONTAINERS: Sequence[Route] = (
    Route("GET", "/containers/json", containers.list_containers),
    Route("POST", "/containers/create", containers.create, completes=True),
    Route("POST", "/containers/prune", containers.prune, completes=True),
    Route("GET", "/containers/{name}/json", containers.inspect),
    Route("POST", "/containers/{name}/start", containers.start, completes=True),
    Route("POST", "/containers/{name}/stop", containers.stop, completes=True),
    Route("POST", "/containers/{name}/restart", containers.restart, completes=True),
    Route("POST", "/containers/{name}/kill", containers.kill, completes=True),
    Route("POST", "/containers/{name}/pause", containers.pause, completes=True),
    Route("POST", "/containers/{name}/unpause", containers.unpause, completes=True),
    Route("POST", "/containers/{name}/rename", containers.rename, completes=True),
    Route("POST", "/containers/{name}/update", containers.update, completes=True),
    Route("POST", "/containers/{name}/wait", containers.wait),
    Route("DELETE", "/containers/{name}", containers.remove, completes=True),
    Route("DELETE", "/containers/{name}/{alias}", containers.remove_link, completes=True),
    Route("POST", "/containers/{name}/attach", attach.attach),
    Route("GET", "/containers/{name}/attach/ws", attach.attach_websocket),
    Route("POST", "/containers/{name}/resize", attach.resize),
    Route("GET", "/containers/{name}/logs", attach.logs),
    Route("GET", "/containers/{name}/top", containers.top),
    Route("GET", "/containers/{name}/stats", stats.stats),
    Route("GET", "/containers/{name}/timeline", stats.timeline),
    Route("GET", "/containers/{name}/changes", containers.changes),
    Route("GET", "/containers/{name}/export", archive.export),
    Route("HEAD", "/containers/{name}/archive", archive.stat_path),
    Route("GET", "/containers/{name}/archive", archive.get),
    Route("PUT", "/containers/{name}/archive", archive.put),
    Route("POST", "/containers/{name}/exec", execs.create, completes=True),
    Route("POST", "/exec/{name}/start", execs.start),
    Route("POST", "/exec/{name}/resize", execs.resize),
    Route("GET", "/exec/{name}/json", execs.inspect),
    Route("POST", "/exec/{name}/kill", execs.kill, completes=True),
    Route("POST", "/sandboxes", sandboxes.open_),
    Route("POST", "/sandboxes/{name}/fork", sandboxes.fork, completes=True),
    Route("POST", "/sandboxes/{name}/hold", sandboxes.hold),
    Route("GET", "/sandboxes/{name}/usage", sandboxes.usage),
    Route("POST", "/templates", templates.open_),
    Route("POST", "/templates/{name}/runs", templates.runs),
    Route("POST", "/commit", containers.commit),
)

#: Names of images contain slashes, so the words after them decide, in this order.
IMAGES: Sequence[Route] = (
    Route("GET", "/images/json", images.list_images),
    Route("POST", "/images/create", images.create),
    Route("POST", "/images/load", images.load),
    Route("POST", "/images/prune", images.prune, completes=True),
    Route("GET", "/images/search", images.search),
    Route("GET", "/images/get", images.save),
    Route("GET", "/images/{name:path}/json", images.inspect),
    Route("GET", "/images/{name:path}/history", images.history),
    Route("GET", "/images/{name:path}/get", images.save),
    Route("POST", "/images/{name:path}/push", images.push),
    Route("POST", "/images/{name:path}/tag", images.tag, completes=True),
    Route("DELETE", "/images/{name:path}", images.remove, completes=True),
    Route("GET", "/distribution/{name:path}/json", images.distribution),
)

BUILDS: Sequence[Route] = (
    Route("POST", "/build", builds.build),
    Route("POST", "/build/prune", builds.prune, completes=True),
)

VOLUMES: Sequence[Route] = (
    Route("GET", "/volumes", volumes.list_volumes),
    Route("POST", "/volumes/create", volumes.create, completes=True),
    Route("POST", "/volumes/prune", volumes.prune, completes=True),
    Route("GET", "/volumes/{name}", volumes.inspect),
    Route("DELETE", "/volumes/{name}", volumes.remove, completes=True),
)

NETWORKS: Sequence[Route] = (
    Route("GET", "/networks", networks.list_networks),
    Route("GET", "/networks/", networks.list_networks),
    Route("POST", "/networks/create", networks.create, completes=True),
    Route("POST", "/networks/prune", networks.prune, completes=True),
    Route("POST", "/networks/join", shared_networks.join, completes=True),
    Route("GET", "/networks/{name}/token", shared_networks.token),
    Route("GET", "/networks/{name}/members", shared_networks.members),
    Route("GET", "/networks/{name}", networks.inspect),
    Route("DELETE", "/networks/{name}", networks.remove, completes=True),
    Route("POST", "/networks/{name}/connect", networks.connect, completes=True),
    Route("POST", "/networks/{name}/disconnect", networks.disconnect, completes=True),
)

#: Docker's endpoints that we do not have: each answers with the status that clients expect.
ABSENT: Sequence[Route] = (
    Route("POST", "/build/cancel", system.no_build),
    Route("POST", "/session", system.no_build),
    Route("POST", "/grpc", system.no_build),
    *(
        Route(method, f"/{word}{rest}", system.no_swarm)
        for word in _SWARM
        for method in ("GET", "POST", "DELETE")
        for rest in ("", "/{name:path}")
    ),
    *(
        Route(method, f"/plugins{rest}", system.no_plugins)
        for method in ("GET", "POST", "DELETE")
        for rest in ("", "/{name:path}")
    ),
)

ROUTES: Sequence[Route] = (*SYSTEM, *CONTAINERS, *IMAGES, *BUILDS, *VOLUMES, *NETWORKS, *ABSENT)
