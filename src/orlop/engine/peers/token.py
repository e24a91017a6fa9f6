"""Join tokens: everything that a host needs to join a network. They are secrets."""

import base64
import binascii
import hashlib
from typing import NamedTuple

import msgspec

from orlop.errors import InvalidArgumentError

_PREFIX = "orlop-join-"
_VERSION = 1
_CHECK_BYTES = 6
_MOST_CHARS = 2048
_MOST_ADDRESSES = 8


class Token(NamedTuple):
    network: str  # 64 hex digits
    secret: bytes  # 32 bytes
    addresses: tuple[tuple[str, int], ...]  # of members, the first to be tried first

    def __str__(self) -> str:
        body = msgspec.msgpack.encode(
            (_VERSION, bytes.fromhex(self.network), self.secret, self.addresses)
        )
        data = base64.urlsafe_b64encode(body + _check(body)).rstrip(b"=")
        return _PREFIX + data.decode()


def parse(text: str) -> Token:
    """Parse a token; InvalidArgumentError if it is invalid, or incomplete."""
    text = text.strip()
    try:
        if not text.startswith(_PREFIX) or len(text) > _MOST_CHARS:
            raise ValueError  # noqa: TRY301 - all that is no token ends below
        data = text.removeprefix(_PREFIX)
        raw = base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
        body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
        if check != _check(body):
            raise ValueError  # noqa: TRY301
        kind = tuple[int, bytes, bytes, tuple[tuple[str, int], ...]]
        version, network, secret, addresses = msgspec.msgpack.decode(body, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise InvalidArgumentError(
            "this is no join token", hint="copy all that orlop network token prints"
        ) from None
    if version != _VERSION:
        raise InvalidArgumentError(
            f"this join token is of version {version}", hint="use the same Orlop on both hosts"
        )
    if len(network) != 32 or len(secret) != 32 or not 1 <= len(addresses) <= _MOST_ADDRESSES:
        raise InvalidArgumentError("this join token is damaged")
    return Token(network.hex(), secret, addresses)


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]
