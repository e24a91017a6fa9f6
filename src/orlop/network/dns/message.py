"""DNS messages, as far as a server with few names needs them. RFC 1035, RFC 6891.

A query is read only up to its question and its OPT record, and an answer is written in one
piece. dnslib and dnspython parse everything into objects, which takes ten times as long for
each query (and 14 ms or 84 ms to import). Forwarded messages must not be parsed and written
again: they pass unchanged, but for the queries of a container with an egress list (`bare`).

Names are compared in wire format, in lower case: the lengths of labels are smaller than the
codes of letters, so bytes.lower() does not change them.
"""

import enum
import ipaddress
import struct
from typing import NamedTuple

HEADER_SIZE = 12
PLAIN_UDP_SIZE = 512  # an answer over UDP without EDNS; RFC 1035, 4.2.1
_OWN_UDP_SIZE = 1232  # announced in our OPT records
_MOST_UDP_SIZE = 4096
_MOST_ADDITIONAL = 8  # records besides the OPT that a query may have: TSIG, SIG(0)
_NAME_SIZE = 255
_LABEL_SIZE = 63
_POINTER = 0xC0
_TO_QUESTION = b"\xc0\x0c"  # "the name at byte 12"

_QR, _OPCODE, _TC, _RD, _RA, _RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x000F
_AD, _CD = 0x0020, 0x0010  # RFC 4035, 3.2
_DO = 0x8000  # of an OPT record's TTL; RFC 3225
_header = struct.Struct("!6H")
_question_end = struct.Struct("!HH")
RECORD = struct.Struct("!HHIH")  # type, class, TTL, length of what follows


class Type(enum.IntEnum):
    A = 1
    PTR = 12
    AAAA = 28
    OPT = 41


class Code(enum.IntEnum):
    """The result of a query. RFC 1035, 4.1.1; RFC 6891, 9."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


IN = 1


class Query(NamedTuple):
    """A query; *question* is the section as received, *name* the name in it."""

    id: int
    flags: int
    name: bytes  # wire format, lower case
    type: int
    class_: int
    question: bytes
    udp_size: int  # the longest answer that the client's UDP socket accepts
    edns_version: int | None  # None: no OPT record
    wants_signatures: bool = False  # DNSSEC's


class MalformedError(ValueError):
    """A message that is invalid, or not a query; *answer* tells the sender, if allowed."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__("malformed DNS message")
        self.answer = answer


def read_query(message: bytes) -> Query:
    """Return the query; MalformedError if we do not understand it."""
    if len(message) < HEADER_SIZE or message[2] & 0x80:  # answering an answer would be a loop
        raise MalformedError
    id_, flags, questions, answers, authorities, additional = _header.unpack_from(message)
    if flags & _OPCODE:
        raise MalformedError(_refusal(id_, flags, Code.NOTIMP))
    if questions != 1 or answers or authorities or additional > _MOST_ADDITIONAL:
        raise MalformedError(_refusal(id_, flags, Code.FORMERR))
    try:
        end = skip_name(message, HEADER_SIZE, pointers=False)
        type_, class_ = _question_end.unpack_from(message, end)
        udp_size, version, signed = _read_opt(message, end + 4, additional)
    except (IndexError, struct.error):
        raise MalformedError(_refusal(id_, flags, Code.FORMERR)) from None
    return Query(
        id=id_,
        flags=flags,
        name=message[HEADER_SIZE:end].lower(),
        type=type_,
        class_=class_,
        question=message[HEADER_SIZE : end + 4],
        udp_size=udp_size,
        edns_version=version,
        wants_signatures=signed,
    )


def bare(query: Query) -> bytes:
    """Return the query with its question alone.

    Options, other records, unused bits and what follows the message would carry data outside.
    """
    opt = b""
    if query.edns_version is not None:
        ttl = _DO if query.wants_signatures else 0
        opt = b"\0" + RECORD.pack(Type.OPT, _OWN_UDP_SIZE, ttl, 0)
    flags = query.flags & (_RD | _AD | _CD)
    return _header.pack(query.id, flags, 1, 0, 0, 1 if opt else 0) + query.question + opt


def _refusal(id_: int, flags: int, code: Code) -> bytes:
    kept = flags & (_OPCODE | _RD)
    return _header.pack(id_, _QR | _RA | kept | code, 0, 0, 0, 0)


def skip_name(message: bytes, start: int, *, pointers: bool) -> int:
    """Return the end of the name at *start*; IndexError if it is invalid.

    Pointers are not followed. The first name of a message cannot have any.
    """
    at = start
    while length := message[at]:
        if length >= _POINTER and pointers:
            return at + 2
        if length > _LABEL_SIZE:
            raise IndexError
        at += 1 + length
        if at - start >= _NAME_SIZE:
            raise IndexError
    return at + 1


def _read_opt(message: bytes, at: int, count: int) -> tuple[int, int | None, bool]:
    """Return what the OPT record among *count* records says: size, version, signatures."""
    size, version, signed = PLAIN_UDP_SIZE, None, False
    for _ in range(count):
        at = skip_name(message, at, pointers=True)
        type_, class_, ttl, length = RECORD.unpack_from(message, at)
        at += RECORD.size + length
        if at > len(message):
            raise IndexError
        if type_ == Type.OPT:
            if version is not None:  # RFC 6891, 6.1.1: more than one is an error
                raise IndexError
            size = min(max(class_, PLAIN_UDP_SIZE), _MOST_UDP_SIZE)
            version = ttl >> 16 & 0xFF
            signed = bool(ttl & _DO)
    return size, version, signed


def answer(
    query: Query, records: list[bytes], *, code: Code = Code.NOERROR, size: int = 65535
) -> bytes:
    """Return the answer with as many *records* as fit into *size* bytes, TC if not all do."""
    opt = _own_opt(code) if query.edns_version is not None else b""
    room = size - HEADER_SIZE - len(query.question) - len(opt)
    flags = _QR | _RA | query.flags & _RD | code & _RCODE
    if records and sum(map(len, records)) > room:
        flags |= _TC
        records = _fitting(records, room)
    counts = (1, len(records), 0, 1 if opt else 0)
    return b"".join([_header.pack(query.id, flags, *counts), query.question, *records, opt])


def _own_opt(code: Code) -> bytes:
    return b"\0" + RECORD.pack(Type.OPT, _OWN_UDP_SIZE, code >> 4 << 24, 0)


def _fitting(records: list[bytes], room: int) -> list[bytes]:
    fitting = []
    for record in records:
        room -= len(record)
        if room < 0:
            break
        fitting.append(record)
    return fitting


def truncated(message: bytes, query: Query) -> bytes:
    """Return *message*, an answer; if it is too long for the client's UDP, only its header."""
    if len(message) <= query.udp_size:
        return message
    (flags,) = struct.unpack_from("!H", message, 2)
    opt = _own_opt(Code.NOERROR) if query.edns_version is not None else b""
    header = _header.pack(query.id, flags | _TC, 1, 0, 0, 1 if opt else 0)
    return header + query.question + opt


def address_record(address: bytes, ttl_s: int) -> bytes:
    """Return an A or AAAA record of the queried name."""
    type_ = Type.A if len(address) == 4 else Type.AAAA
    return _TO_QUESTION + RECORD.pack(type_, IN, ttl_s, len(address)) + address


def pointer_record(name: bytes, ttl_s: int) -> bytes:
    """Return a PTR record of the queried name."""
    return _TO_QUESTION + RECORD.pack(Type.PTR, IN, ttl_s, len(name)) + name


def wire_name(text: str) -> bytes | None:
    """Return a name in wire format, in lower case; None if it is not valid."""
    labels = text.rstrip(".").encode().split(b".")
    if not all(0 < len(label) <= _LABEL_SIZE for label in labels):
        return None
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return name.lower() if len(name) <= _NAME_SIZE else None


def reverse_name(address: bytes) -> bytes:
    """Return the name for the reverse lookup of an address, in wire format."""
    pointer = ipaddress.ip_address(address).reverse_pointer
    name = wire_name(pointer)
    assert name is not None  # an address always has one
    return name


def is_answer(message: bytes, query: bytes, question: bytes) -> bool:
    """Whether *message* is an answer to the message *query*, which asks *question*.

    Servers that do not understand a query may leave its question out of their error.
    """
    if len(message) < HEADER_SIZE or message[:2] != query[:2] or not message[2] & 0x80:
        return False
    if message[4:6] == b"\0\0":
        return code_of(message) not in (Code.NOERROR, Code.NXDOMAIN)
    asked = message[HEADER_SIZE : HEADER_SIZE + len(question)]
    same = asked[:-4].lower() == question[:-4].lower() and asked[-4:] == question[-4:]
    return same and message[4:6] == b"\0\1"


def code_of(message: bytes) -> int:
    """Return the result code of an answer, without EDNS's part."""
    return message[3] & _RCODE
