"""Small parts of answers and requests that many endpoints share."""

import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any

import msgspec

from orlop.api.docker import wire
from orlop.api.messages import Request, Response, Stream
from orlop.engine.requests import Credentials, Filters
from orlop.errors import InvalidArgumentError

NO_CONTENT = Response(204)
NOT_MODIFIED = Response(304)
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"

_encode = msgspec.json.Encoder().encode


def json(value: object, *, status: int = 200) -> Response:
    """Answer with *value* as JSON."""
    return Response(status, _encode(value) + b"\n")


def json_list(values: Iterable[Any]) -> Response:
    """Answer with a list; Docker's clients need [] where Go would write null."""
    return json(list(values))


async def stream_of(
    pieces: AsyncIterator[bytes], *, headers: Mapping[str, str] | None = None
) -> Stream:
    """Answer with an archive; an error before its first byte still gets a status."""
    first = await anext(pieces, b"")
    return Stream(_with_first(first, pieces), "application/x-tar", headers=headers or {})


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        if isinstance(rest, AsyncGenerator):
            await rest.aclose()


def filters_of(request: Request) -> Filters:
    """Decode "filters": {"name": ["value"]}, or older clients' {"name": {"value": true}}."""
    text = request.query.text("filters")
    if not text:
        return {}
    kind = dict[str, list[str] | dict[str, bool]]
    decoded = wire.decode(text.encode(), kind, what="parameter filters")
    return {name: list(values) for name, values in decoded.items()}


def stream_type(*, terminal: bool, version: tuple[int, int]) -> str:
    """Return the content type of output: from 1.42 on it says if it has headers."""
    return RAW_STREAM if terminal or version < (1, 42) else MULTIPLEXED_STREAM


def credentials_of(request: Request) -> Credentials | None:
    """Decode X-Registry-Auth: base64url of JSON. None if it is missing or empty."""
    text = request.headers.get("x-registry-auth", "")
    if not text:
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise InvalidArgumentError("X-Registry-Auth is not base64") from None
    return to_credentials(wire.decode(data, wire.AuthConfig, what="X-Registry-Auth"))


def to_credentials(auth: wire.AuthConfig) -> Credentials | None:
    """Return the engine's form of *auth*; None if it is empty."""
    username, password = auth.username or "", auth.password or ""
    if auth.auth and not username:
        try:
            pair = base64.b64decode(auth.auth).decode()
        except (binascii.Error, ValueError):
            raise InvalidArgumentError("the auth field of the credentials is not base64") from None
        username, _, password = pair.partition(":")
    if not (username or auth.identitytoken or auth.registrytoken):
        return None
    return Credentials(
        username=username,
        password=password,
        identity_token=auth.identitytoken or "",
        registry_token=auth.registrytoken or "",
        server=auth.serveraddress or "",
    )
