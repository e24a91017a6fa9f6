"""How two engines show each other that they know a network's secret, and never say it.

    dialer                                listener
    magic, network id, nonce     ->                        80 bytes
                                 <-       nonce            32
    proof of the dialer          ->                        32
                                 <-       proof of the listener 32

Both nonces go into the key of the connection, so neither a proof nor a later message
of another connection is worth anything here. The two proofs and the two directions
differ by a word, so that nothing can be reflected. A network that the listener does
not know is answered like a wrong secret.
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
    """What both ends derive from the secret and their nonces."""

    dialer_proof: bytes
    listener_proof: bytes
    from_dialer: bytes
    from_listener: bytes


def opening(network: str) -> bytes:
    """Return the dialer's first bytes, with a new nonce."""
    return MAGIC + bytes.fromhex(network) + secrets.token_bytes(NONCE_BYTES)


def network_of(opening: bytes) -> str | None:
    """Return the network that an opening asks for; None if it is no opening of ours."""
    if len(opening) != OPENING_BYTES or not opening.startswith(MAGIC):
        return None
    return opening[len(MAGIC) : len(MAGIC) + 32].hex()


def keys(secret: bytes, opening: bytes, nonce: bytes) -> Keys:
    """Return the keys of the one connection that began with *opening* and *nonce*."""
    session = _mac(secret, b"orlop peers, session\0" + opening + nonce)
    return Keys(
        dialer_proof=_mac(session, b"proof of the dialer"),
        listener_proof=_mac(session, b"proof of the listener"),
        from_dialer=_mac(session, b"from the dialer"),
        from_listener=_mac(session, b"from the listener"),
    )


def tag(key: bytes, number: int, payload: bytes) -> bytes:
    """Return what goes behind the message that is *number* in its direction."""
    return _mac(key, number.to_bytes(8, "big") + len(payload).to_bytes(4, "big") + payload)


def is_same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)
