"""Filters on images read words and times as those on containers do."""

from typing import cast

import pytest

from orlop.engine.images.catalog import Catalog
from orlop.engine.images.filters import is_like, matcher
from orlop.errors import InvalidArgumentError

NONE = cast("Catalog", None)  # not looked at by these filters


@pytest.mark.parametrize(
    "filters",
    [{"dangling": ["maybe"]}, {"until": ["7d"]}, {"until": ["yesterday"]}, {"colour": ["red"]}],
)
def test_what_means_nothing_is_refused(filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidArgumentError):
        matcher(filters, NONE)


@pytest.mark.parametrize(
    "filters",
    [{"dangling": ["T"]}, {"until": ["1h30m"]}, {"until": ["2026-01-02T03:04:05+02:00"]}],
)
def test_what_docker_takes_is_taken(filters: dict[str, list[str]]) -> None:
    assert callable(matcher(filters, NONE))


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("a*", False),
        ("*", False),
        ("a/*", True),
        ("*/b", True),
        ("a/b:1*", True),
        ("a/[^x]:1.0", True),
        ("a/[^b]:1.0", False),
        ("[", False),
    ],
)
def test_a_reference_pattern_does_not_match_across_a_slash(pattern: str, matches: bool) -> None:
    assert is_like("docker.io/a/b:1.0", pattern) is matches
