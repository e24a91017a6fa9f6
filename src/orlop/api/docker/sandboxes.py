"""Sandboxes: containers of a client that are gone when it is. Docker does not have them."""

import socket

from orlop.api.docker.parse_container import parse_create
from orlop.api.docker.routing import Call
from orlop.api.docker.wire import Create, read_json
from orlop.api.messages import Hijack, Reply


async def open_(call: Call) -> Reply:
    """POST /sandboxes: the body is that of POST /containers/create; the container is started.

    Its id is in the header Orlop-Container-Id. It is removed when the connection ends, or
    the process that has made it.
    """
    body = await read_json(call.request, Create)
    options = parse_create(body, platform=call.query.text("platform"))
    peer = call.request.peer
    container_id = await call.engine.owners.open(
        options, name=call.query.text("name") or None, pid=peer.pid if peer else 0
    )

    async def take(client: socket.socket, pending: bytes) -> None:
        del pending
        call.engine.owners.hold(container_id, client)

    return Hijack(take, headers={"Orlop-Container-Id": container_id})
