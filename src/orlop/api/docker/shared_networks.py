"""Networks over several hosts, below /networks; not part of Docker's API."""

from typing import TYPE_CHECKING, Any

from orlop.api.docker.answers import json
from orlop.api.docker.routing import Call
from orlop.api.docker.wire import Wire, read_json
from orlop.api.messages import Reply
from orlop.errors import InvalidArgumentError

if TYPE_CHECKING:
    from orlop.engine.peers.peers import MemberState


class NetworkJoin(Wire, frozen=True, kw_only=True):
    token: str | None = None
    address: str | None = None  # this host's address for the tunnel


async def join(call: Call) -> Reply:
    """POST /networks/join."""
    body = await read_json(call.request, NetworkJoin)
    if not body.token:
        raise InvalidArgumentError("there is no join token in the request")
    network = await call.engine.networks.join(body.token, address=body.address or "")
    return json({"Id": network.id, "Name": network.name}, status=201)


async def token(call: Call) -> Reply:
    """GET /networks/{name}/token."""
    return json({"Token": call.engine.networks.token(call.name)})


async def members(call: Call) -> Reply:
    """GET /networks/{name}/members."""
    return json([_member(state) for state in call.engine.networks.members(call.name)])


def _member(state: "MemberState") -> dict[str, Any]:
    return {
        "Id": state.member.id,
        "Name": state.member.name,
        "Address": state.member.address,
        "Port": state.member.port,
        "Self": state.is_this_host,
        "Status": state.status,
        "Endpoints": state.endpoints,
    }
