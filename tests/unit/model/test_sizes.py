"""Sizes as people write them."""

import pytest

from orlop.model.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", 512),
        ("64k", 64 << 10),
        ("64KB", 64 << 10),
        ("1.5g", 3 << 29),
        ("2GiB", 2 << 30),
        ("0", 0),
        ("10b", 10),
        (" 5 kib ", 5 << 10),
        ("8191p", 8191 << 50),
    ],
)
def test_size_is_in_powers_of_1024(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "lots", "5x", "k", "1.2.3m", "inf", "nan", "٣", "9e9", "8192p"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)
