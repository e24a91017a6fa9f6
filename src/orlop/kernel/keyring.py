"""Keyrings: a session keyring of our own. keyctl(2)."""

from orlop.kernel.light_ctypes import c_char_p, c_int
from orlop.kernel.syscall import bind_number, by_machine

_JOIN_SESSION_KEYRING = 1

_keyctl = bind_number("keyctl", by_machine(x86_64=250, aarch64=219), c_int, c_char_p)


def join_session_keyring(name: str) -> int:
    """Replace our session keyring by a new one, or by one with *name* that we may search."""
    return _keyctl(_JOIN_SESSION_KEYRING, name.encode())
