"""The handshake: two engines prove that they know a network's secret, without sending it.

    dialer                                listener
    magic, network id, nonce     ->                        80 bytes
                                 <-       nonce            32
    proof of the dialer          ->                        32
                                 <-       proof of the listener 32

Both nonces are part of the connection's key, so proofs and messages of other connections are
not valid here. The two proofs and the two directions differ by a word, so nothing can be
reflected. An unknown network gets the same answer as a wrong secret.
"""

import hashlib
import hmac
import secrets
from typing import NamedTuple

MAGIC = b"orlop-peers/1\r\n\0"
NONCE_BYTES = 32
PROOF_BYTES = 32
OPENING_BYTES = len(MAGIC) + 32 + NONCE_BYTES


class Keys(NamedTuple):
    """The keys that both ends derive from the secret and their nonces."""

    dialer_proof: bytes
    listener_proof: bytes
    from_dialer: bytes
    from_listener: bytes


def opening(network: str) -> bytes:
    """Return the dialer's first bytes, with a new nonce."""
    return MAGIC + bytes.fromhex(network) + secrets.token_bytes(NONCE_BYTES)


def network_of(opening: bytes) -> str | None:
    """Return the network in an opening; None if it is not one of ours."""
    if len(opening) != OPENING_BYTES or not opening.startswith(MAGIC):
        return None
    return opening[len(MAGIC) : len(MAGIC) + 32].hex()


def keys(secret: bytes, opening: bytes, nonce: bytes) -> Keys:
    """Return the keys of the connection that began with *opening* and *nonce*."""
    session = _mac(secret, b"orlop peers, session\0" + opening + nonce)
    return Keys(
        dialer_proof=_mac(session, b"proof of the dialer"),
        listener_proof=_mac(session, b"proof of the listener"),
        from_dialer=_mac(session, b"from the dialer"),
        from_listener=_mac(session, b"from the listener"),
    )


def tag(key: bytes, number: int, payload: bytes) -> bytes:
    """Return the tag of the message with this *number* in its direction."""
    return _mac(key, number.to_bytes(8, "big") + len(payload).to_bytes(4, "big") + payload)


def is_same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)
