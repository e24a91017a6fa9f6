"""Read the addresses in a forwarded answer, which is otherwise passed on unchanged."""

import ipaddress
import struct
from collections.abc import Iterator

from orlop.network.dns.message import HEADER_SIZE, IN, RECORD, Type, skip_name

_SIZES = {Type.A: 4, Type.AAAA: 16}


def addresses(message: bytes) -> Iterator[tuple[str, int]]:
    """Yield each address in the answer section with its TTL; stop at the first invalid record."""
    try:
        questions, answers = struct.unpack_from("!HH", message, 4)
        at = HEADER_SIZE
        for _ in range(questions):
            at = skip_name(message, at, pointers=True) + 4
        for _ in range(answers):
            at = skip_name(message, at, pointers=True)
            type_, class_, ttl_s, length = RECORD.unpack_from(message, at)
            at += RECORD.size
            data = message[at : at + length]
            at += length
            if class_ == IN and _SIZES.get(type_) == len(data):
                yield str(ipaddress.ip_address(data)), ttl_s
    except (IndexError, struct.error):
        return
