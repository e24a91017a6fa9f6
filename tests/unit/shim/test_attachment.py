"""What a client types: the detach keys among the input."""

import pytest

from orlop.shim.attachment import DetachKeys, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("", b""),
        ("a", b"a"),
        ("ctrl-@,z", b"\0z"),
        ("ctrl-C", b"\3"),
    ],
)
def test_key_names_become_bytes(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "ctrl-p ctrl-q"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no such key"):
        parse_keys(text)


def feed(keys: DetachKeys, *typed: bytes) -> tuple[bytes, bool]:
    text = b""
    for data in typed:
        part, detached = keys.feed(data)
        text += part
        if detached:
            return text, True
    return text, False


@pytest.mark.parametrize(
    ("typed", "text", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"ab\x10", b"\x11"], b"ab", True),
        ([b"ab\x10", b"c"], b"ab\x10c", False),
        ([b"\x10\x10", b"\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_sequence_is_found_wherever_it_is_cut(
    typed: list[bytes], text: bytes, detached: bool
) -> None:
    assert feed(DetachKeys(b"\x10\x11"), *typed) == (text, detached)


def test_without_keys_everything_is_input() -> None:
    assert feed(DetachKeys(b""), b"\x10", b"\x11") == (b"\x10\x11", False)
