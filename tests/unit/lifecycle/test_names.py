"""Words of users: ids, signals, sizes, lengths of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.errors import InvalidArgumentError
from orlop.lifecycle.folder import check_id
from orlop.programs.oci.events import milliseconds
from orlop.programs.oci.update import size


@pytest.mark.parametrize("name", ["a", "A-b_c.d+e", "0", "...", "-", "a" * 1024])
def test_an_id_is_letters_digits_and_some_more(name: str) -> None:
    assert check_id(name) == name


@given(st.text())
def test_no_id_leaves_its_folder(name: str) -> None:
    try:
        check_id(name)
    except InvalidArgumentError:
        return
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\0\n ")


@pytest.mark.parametrize(
    ("word", "value"),
    [("0", 0), ("100", 100), ("1k", 1024), ("64M", 64 << 20), ("1.5GiB", 3 << 29), ("-1", -1)],
)
def test_a_size_is_in_bytes_unless_it_has_a_unit(word: str, value: int) -> None:
    assert size(word) == value


@pytest.mark.parametrize("word", ["", "m", "-2", "much", "1x", "1e30", "nan", "inf"])
def test_what_is_no_size_is_refused(word: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser says what it is about
        size(word)


@pytest.mark.parametrize(("word", "value"), [("5s", 5000), ("100ms", 100), ("1.5m", 90_000)])
def test_a_length_of_time_has_a_unit(word: str, value: int) -> None:
    assert milliseconds(word) == value


@pytest.mark.parametrize("word", ["", "5", "0s", "-1s", "s", "1..2s", "1y"])
def test_what_is_no_length_of_time_is_refused(word: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser says what it is about
        milliseconds(word)
