"""Words of an instruction lose their quotes and get their variables' values."""

import pytest

from orlop.build.expand import expand, expand_document, expand_words

VARIABLES = {"A": "1", "E": "", "P": "dir/sub/name.tar.gz", "W": "a b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A-${A}$NONE", "1-1"),
        ("${E:-x}${E-x}${A:+y}${E:+z}", "xy"),
        ("${P#*/} ${P##*/}", "sub/name.tar.gz name.tar.gz"),
        ("${P%.*} ${P%%.*}", "dir/sub/name.tar dir/sub/name"),
        ("${A/1/2}", "2"),
        ("'$A' \"$A\" \\$A", "$A 1 $A"),
    ],
)  # fmt: skip
def test_a_word_is_expanded(text: str, expected: str) -> None:
    assert expand(text, VARIABLES, escape="\\") == expected


def test_an_unquoted_value_is_split_into_words() -> None:
    assert expand_words('$W "$W"', VARIABLES, escape="\\") == ["a", "b", "a b"]


def test_a_heredoc_keeps_its_quotes() -> None:
    assert expand_document("'$A' \"${A}\"\n", VARIABLES, escape="\\") == "'1' \"1\"\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("${A", "brace|unexpected|syntax|expecting"),
        ("${NONE:?is needed}", "is needed"),
        ("$L" * 3, "too long"),
        ("${L##*a*a*a*b}", "too complex"),
    ],
)
def test_a_wrong_or_too_costly_word_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        expand(text, {"L": "a" * (500_000 if "##" not in text else 5000)}, escape="\\")
