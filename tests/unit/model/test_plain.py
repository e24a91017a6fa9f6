"""Text of strangers made harmless."""

import json

import pytest

from orlop.model.plain import one_line, plain


@pytest.mark.parametrize(
    "text", ["", "name", "two words", "naïve 日本 🐳", "全角\u3000空白", "a\u00a0b"]
)
def test_text_that_no_terminal_obeys_is_left_alone(text: str) -> None:
    assert plain(text) == one_line(text) == text


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\u200d", "\x7f"])
def test_what_a_terminal_obeys_is_escaped(character: str) -> None:
    assert plain(f"a{character}b") == f"a\\u{ord(character):04x}b"


def test_json_stays_the_same_json() -> None:
    document = {"a": "\u202e\x9b\x7f\U000e0041\udc80 b\n"}
    assert json.loads(plain(json.dumps(document, ensure_ascii=False, indent=4))) == document


def test_lines_and_columns_stay_in_text_and_not_in_a_line() -> None:
    assert plain("a\tb\nc\x1b") == "a\tb\nc\\u001b"
    assert one_line("a\tb\nc\x1b") == "a\\tb\\nc\\u001b"
