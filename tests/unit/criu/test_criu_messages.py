"""CRIU's messages as bytes. The expected ones were made with Google's protobuf from rpc.proto."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.criu.conversation import Log
from orlop.criu.messages import REQUEST, RESPONSE, Field, Schema, decode, encode
from orlop.errors import CorruptError


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": 6, "notify_success": True}, "08061801"),
        ({"type": 9, "features": {"mem_track": True, "lazy_pages": False}}, "08092a0408011000"),
        (
            {"type": 1, "opts": {"images_dir_fd": -1, "pid": 300}},
            "0801120e08ffffffffffffffffff0110ac02",
        ),
        (
            {"type": 2, "opts": {"ext_mnt": [{"key": "/a", "val": "/b"}, {"key": "ä", "val": ""}]}},
            "08021214ba01080a022f6112022f62ba01060a02c3a41200",
        ),
    ],
)
def test_requests_are_encoded_as_protobuf_has_them(message: Any, expected: str) -> None:
    assert encode(REQUEST, message).hex() == expected


def test_what_is_none_is_left_out_and_an_empty_list_too() -> None:
    assert encode(REQUEST, {"type": 1, "opts": {"root": None, "external": []}}).hex() == "08011200"


def test_answers_are_decoded_and_unknown_fields_are_passed_over() -> None:
    notify = encode(
        {"n": Field(5, {"script": Field(1, str), "pid": Field(2, int)})},
        {"n": {"script": "post-restore", "pid": 77}},
    )
    unknown = bytes.fromhex("a206036162639d0601020304a10601020304050607089806ac02")
    assert decode(RESPONSE, b"\x08\x06\x10\x01" + unknown + notify) == {
        "type": 6,
        "success": True,
        "notify": {"script": "post-restore", "pid": 77},
    }


@pytest.mark.parametrize("data", ["08", "0880", "4a05", "0b", "4a", "ff" * 11, "0a00", "4801"])
def test_what_is_no_message_is_refused(data: str) -> None:
    with pytest.raises(CorruptError):
        decode(RESPONSE, bytes.fromhex(data))


@given(st.binary(max_size=64))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        decode(RESPONSE, data)
    except CorruptError:
        return


_EVERYTHING: Schema = {
    "flag": Field(1, bool),
    "number": Field(1000, int),
    "text": Field(17, str),
    "inner": Field(3, {"number": Field(1, int)}),
}


@given(st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.text())
def test_what_is_encoded_is_decoded_to_the_same(flag: bool, number: int, text: str) -> None:
    message = {"flag": flag, "number": number, "text": text, "inner": {"number": number}}
    assert decode(_EVERYTHING, encode(_EVERYTHING, message)) == message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ""),
        ("(00.01) Info\n(00.02) Error (criu/a.c:1): first\n(00.03) Error (b.c:2): last\n", "first"),
        ("(00.02)      1: Error (criu/files.c:3): deep\n", "deep"),
        ("(0) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: No\n", ""),
        ("(0) Error (criu/tun.c:85): tun: Unable to create tun: No\n(1) Error (x): Why\n", "Why"),
    ],
)
def test_the_reason_is_the_first_error_that_tells_one(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "dump.log").write_text(text)
    fd = os.open(tmp_path, os.O_RDONLY)
    assert Log(fd, str(tmp_path), "dump.log").reason() == reason
    os.close(fd)


def test_a_log_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("(0) Error (a.c:1): secret\n")
    (tmp_path / "dump.log").symlink_to("secret")
    fd = os.open(tmp_path, os.O_RDONLY)
    assert Log(fd, str(tmp_path), "dump.log").reason() == ""
    os.close(fd)
