"""Sandboxes: containers of a client that are gone when it is. Docker does not have them."""

import math
import socket

from orlop.api.docker.answers import json
from orlop.api.docker.parse_container import parse_create
from orlop.api.docker.routing import Call
from orlop.api.docker.wire import Create, read_json
from orlop.api.messages import Hijack, Reply
from orlop.engine.owners import Terms
from orlop.errors import InvalidArgumentError

_MOST_FORKS = 1000


async def open_(call: Call) -> Reply:
    """POST /sandboxes: the body is that of POST /containers/create; the container is started.

    Its id is in the header Orlop-Container-Id. It is removed when the connection ends, or
    the process that has made it; with ?keep=1 neither, and the answer is its Id. With
    ?lifetime=SECONDS it is removed then.
    """
    body = await read_json(call.request, Create)
    options = parse_create(body, platform=call.query.text("platform"))
    terms = terms_of(call)
    name = call.query.text("name") or None
    container_id = await call.engine.owners.open(options, terms, name=name)
    return json({"Id": container_id}, status=201) if terms.keep else held(call, container_id)


async def fork(call: Call) -> Reply:
    """POST /sandboxes/{name}/fork?count=N: as many, with copies of its files, are started.

    With ?processes=1 copies of its processes, too, which go on in them.
    The body and the query are those of POST /sandboxes; each is to be held within seconds.
    """
    body = await read_json(call.request, Create)
    options = parse_create(body, platform="")
    count = call.query.integer("count") or 1
    if not 0 < count <= _MOST_FORKS:
        raise InvalidArgumentError(f"invalid number of forks {count}", hint=f"1 to {_MOST_FORKS}")
    processes = call.query.flag("processes")
    made = await call.engine.forks.fork(
        call.name, options, terms_of(call), count=count, processes=processes
    )
    return json({"Ids": made}, status=201)


async def hold(call: Call) -> Reply:
    """POST /sandboxes/{name}/hold: it goes with this connection, as one that was opened by it."""
    return held(call, call.engine.owners.unheld(call.name))


async def usage(call: Call) -> Reply:
    """GET /sandboxes/{name}/usage: what all that has run in it has used so far."""
    return json({"Usage": await call.engine.containers.usage(call.name)})


def terms_of(call: Call) -> Terms:
    """Return on which terms the client wants it, by its process and the query."""
    peer = call.request.peer
    return Terms(
        pid=peer.pid if peer else 0,
        keep=call.query.flag("keep"),
        lifetime_s=_seconds(call.query.text("lifetime")),
    )


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidArgumentError(f"invalid lifetime {text[:100]!r}", hint="seconds, above 0")
    return seconds


def held(call: Call, container_id: str) -> Hijack:
    """Keep the container for as long as the connection is there."""

    async def take(client: socket.socket, pending: bytes) -> None:
        del pending
        call.engine.owners.hold(container_id, client)

    return Hijack(take, headers={"Orlop-Container-Id": container_id})
