"""DNS messages: what is read of a query, what an answer looks like, what garbage does."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.network.dns.message import (
    Code,
    MalformedError,
    Query,
    Type,
    address_record,
    answer,
    bare,
    code_of,
    is_answer,
    read_query,
    reverse_name,
    truncated,
    wire_name,
)

OPT_1232 = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)


def query(name: str = "Web.example", type_: int = Type.A, *, more: bytes = b"") -> bytes:
    wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    counts = (1, 0, 0, 1 if more else 0)
    return struct.pack("!6H", 7, 0x0100, *counts) + wire + struct.pack("!HH", type_, 1) + more


def read_or_refused(message: bytes) -> Query | bytes:
    """Return the query, or the answer to one that is none."""
    try:
        return read_query(message)
    except MalformedError as error:
        return error.answer


def test_a_query_is_read_to_its_question() -> None:
    read = read_query(query())
    assert read == Query(
        id=7,
        flags=0x0100,
        name=b"\3web\7example\0",
        type=1,
        class_=1,
        question=b"\3Web\7example\0\0\1\0\1",
        udp_size=512,
        edns_version=None,
    )


def test_the_size_of_answers_comes_from_the_opt_record() -> None:
    assert read_query(query(more=OPT_1232)).udp_size == 1232
    tiny = b"\0" + struct.pack("!HHIH", 41, 3, 0, 0)
    assert read_query(query(more=tiny)).udp_size == 512
    huge = b"\0" + struct.pack("!HHIH", 41, 65535, 1 << 16, 0)
    read = read_query(query(more=huge))
    assert (read.udp_size, read.edns_version) == (4096, 1)


def test_a_bare_query_keeps_what_decides_about_its_answer() -> None:
    signed = b"\0" + struct.pack("!HHIH", 41, 4000, 0xFFFF, 4) + b"\1\1\0\0"
    read = read_query(query(more=signed)[:2] + b"\x01\x70" + query(more=signed)[4:] + b"more")
    expected = b"\0" + struct.pack("!HHIH", 41, 1232, 0x8000, 0)
    assert bare(read) == query(more=expected)[:3] + b"\x30" + query(more=expected)[4:]
    assert bare(read_query(query())) == query()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (query()[:20], Code.FORMERR),  # ends in its name
        (query()[:-1], Code.FORMERR),
        (query()[:12] + b"\xc0\x0c\0\1\0\1", Code.FORMERR),  # points at itself
        (query()[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", Code.FORMERR),  # no kind of label
        (query()[:12] + b"\1a" * 130 + b"\0\0\1\0\1", Code.FORMERR),  # longer than a name
        (query(more=OPT_1232)[:-1], Code.FORMERR),
        (query(more=OPT_1232[:-2] + b"\xff\xff"), Code.FORMERR),  # data that is not there
        (query()[:4] + b"\0\2" + query()[6:], Code.FORMERR),  # two questions
        (query()[:6] + b"\0\1" + query()[8:], Code.FORMERR),  # answers in a query
        (query()[:10] + b"\xff\xff" + query()[12:], Code.FORMERR),
        (b"\0\7\x28\0" + query()[4:], Code.NOTIMP),  # an update
    ],
)
def test_what_is_no_query_is_refused_with_its_id(message: bytes, code: Code) -> None:
    with pytest.raises(MalformedError) as caught:
        read_query(message)
    assert caught.value.answer[:2] == b"\0\7"
    assert code_of(caught.value.answer) == code


@pytest.mark.parametrize("message", [b"", query()[:11], b"\0\7\x81\x80" + query()[4:]])
def test_rubbish_and_answers_get_no_answer(message: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        read_query(message)
    assert caught.value.answer == b""


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    read = read_or_refused(message)
    if isinstance(read, bytes):
        assert len(read) in (0, 12)
    else:
        assert len(read.name) <= 255
        assert answer(read, []).startswith(message[:2])


@given(st.binary(max_size=40), st.integers(0, 0xFFFF), st.integers(0, 12))
def test_any_bytes_behind_a_question_are_read_or_refused(
    more: bytes, additional: int, cut: int
) -> None:
    message = query(more=more)
    message = message[:10] + struct.pack("!H", additional) + message[12 : len(message) - cut]
    read = read_or_refused(message)
    if isinstance(read, bytes):
        assert code_of(read) == Code.FORMERR
    else:
        assert read.name == b"\3web\7example\0"


label = st.text("abcXYZ019-_", min_size=1, max_size=63)


@given(st.lists(label, min_size=1, max_size=5))
def test_a_name_is_the_same_on_the_wire_whoever_writes_it(labels: list[str]) -> None:
    name = wire_name(".".join(labels))
    if name is not None:
        assert read_query(query(".".join(labels))).name == name
    else:
        assert sum(len(one) + 1 for one in labels) + 1 > 255


@pytest.mark.parametrize("text", ["", ".", "a..b", "x" * 64, ".".join(["y" * 60] * 5)])
def test_what_can_be_no_name_has_no_wire_form(text: str) -> None:
    assert wire_name(text) is None


def test_an_answer_has_the_question_as_it_was_asked_and_its_records() -> None:
    made = answer(read_query(query()), [address_record(bytes([10, 0, 0, 1]), 10)])
    assert made == bytes.fromhex("00078180 0001 0001 0000 0000") + query()[12:] + bytes.fromhex(
        "c00c 0001 0001 0000000a 0004 0a000001"
    )


@given(st.integers(0, 60), st.integers(40, 600), st.booleans())
def test_an_answer_is_never_longer_than_its_size(count: int, size: int, edns: bool) -> None:
    records = [address_record(bytes([10, 0, 0, number]), 10) for number in range(count)]
    read = read_query(query(more=OPT_1232 if edns else b""))
    made = answer(read, records, size=size)
    assert len(made) <= max(size, 12 + len(read.question) + (11 if edns else 0))
    held = struct.unpack_from("!H", made, 6)[0]
    assert bool(made[2] & 0x02) == (held < count)
    assert made[10:12] == (b"\0\1" if edns else b"\0\0")


def test_a_bad_version_of_edns_is_said_in_both_halves() -> None:
    wrong = b"\0" + struct.pack("!HHIH", 41, 1232, 1 << 16, 0)
    made = answer(read_query(query(more=wrong)), [], code=Code.BADVERS)
    assert code_of(made) == 0
    assert made.endswith(b"\0" + struct.pack("!HHIH", 41, 1232, 1 << 24, 0))


def test_a_long_answer_of_others_becomes_an_empty_one_that_says_so() -> None:
    read = read_query(query())
    long = b"\0\7\x81\x80" + b"\0\1\0\1\0\0\0\0" + query()[12:] + bytes(600)
    short = truncated(long, read)
    assert len(short) == 12 + len(read.question)
    assert short[2] & 0x02
    assert truncated(long[:500], read) == long[:500]


def test_only_what_was_asked_is_an_answer() -> None:
    asked = query()
    question = asked[12:]
    good = b"\0\7\x81\x80" + b"\0\1\0\0\0\0\0\0" + question
    assert is_answer(good, asked, question)
    assert is_answer(good[:12] + question.swapcase()[:-4] + question[-4:], asked, question)
    assert not is_answer(b"\0\x08" + good[2:], asked, question)  # another id
    assert not is_answer(asked, asked, question)  # the query itself
    assert not is_answer(good[:12] + query("other.name")[12:], asked, question)
    assert not is_answer(good[:-3] + b"\x1c\0\1", asked, question)  # another type
    assert not is_answer(good[:4] + b"\0\0" + good[6:12], asked, question)
    refused = b"\0\7\x81\x85" + bytes(8)
    assert is_answer(refused, asked, question)


def test_names_of_addresses() -> None:
    assert reverse_name(bytes([172, 18, 0, 2])) == b"\x012\x010\x0218\x03172\x07in-addr\x04arpa\0"
    assert reverse_name(bytes(16)) == b"\x010" * 32 + b"\x03ip6\x04arpa\0"
