from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.runtime.cgroups.dbus import complete_types, pack, unpack

SIGNATURES = ["y", "b", "n", "q", "i", "u", "x", "t", "s", "o", "g", "as", "a(sv)", "(yt)", "a{sv}"]
BITS = {"y": 8, "b": 1, "q": 16, "u": 32, "t": 64, "n": 15, "i": 31, "x": 63}


def values(kind: str) -> st.SearchStrategy[Any]:
    if kind in BITS:
        lowest = -(1 << BITS[kind]) if kind in "nix" else 0
        return st.integers(lowest, (1 << BITS[kind]) - 1)
    if kind == "g":
        return st.text("asu", max_size=20)
    if kind in "so":
        return st.text("abc/ü", max_size=20)
    if kind == "v":
        return st.sampled_from(["s", "t", "au"]).flatmap(
            lambda inner: st.tuples(st.just(inner), values(inner))
        )
    if kind[0] == "a":
        return st.lists(values(kind[1:]), max_size=4)
    return st.tuples(*(values(inner) for inner in complete_types(kind[1:-1])))


def untyped(kind: str, value: Any) -> Any:
    """What is read knows no longer of its variants."""
    if kind == "v":
        return untyped(value[0], value[1])
    if kind[0] == "a":
        return [untyped(kind[1:], item) for item in value]
    if kind[0] in "({":
        inner = complete_types(kind[1:-1])
        return tuple(untyped(each, item) for each, item in zip(inner, value, strict=True))
    return value


@given(st.lists(st.sampled_from(SIGNATURES), max_size=5).flatmap(
    lambda kinds: st.tuples(st.just(kinds), st.tuples(*(values(kind) for kind in kinds)))
))  # fmt: skip
def test_what_is_packed_can_be_read_again(case: tuple[list[str], tuple[Any, ...]]) -> None:
    kinds, given_values = case
    expected = tuple(untyped(kind, value) for kind, value in zip(kinds, given_values, strict=True))
    assert unpack("".join(kinds), pack("".join(kinds), given_values)) == expected


@pytest.mark.parametrize(
    ("signature", "parts"),
    [
        ("", []),
        ("ss", ["s", "s"]),
        ("ssa(sv)a(sa(sv))", ["s", "s", "a(sv)", "a(sa(sv))"]),
        ("aaua{s(ii)}y", ["aau", "a{s(ii)}", "y"]),
    ],
)
def test_a_signature_is_made_of_complete_types(signature: str, parts: list[str]) -> None:
    assert list(complete_types(signature)) == parts


def test_values_are_aligned_as_the_specification_says() -> None:
    assert pack("yu", (1, 2)) == b"\1\0\0\0\2\0\0\0"
    assert pack("as", (["a"],)) == b"\6\0\0\0" + b"\1\0\0\0a\0"
    assert pack("at", ([1],)) == b"\x08\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"
    assert pack("v", (("u", 7),)) == b"\1u\0\0\7\0\0\0"


def test_the_other_byte_order_is_read_too() -> None:
    assert unpack("us", b"\0\0\0\7\0\0\0\1a\0", order=">") == (7, "a")
