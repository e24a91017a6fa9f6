"""`.dockerignore` leaves out what Docker leaves out."""

import pytest

from orlop.build.ignore import Ignore


@pytest.mark.parametrize(
    ("text", "path", "is_left_out"),
    [
        ("*.md", "a.md", True),
        ("*.md", "d/a.md", False),
        ("**/*.md", "d/e/a.md", True),
        ("**/*.md", "a.md", True),
        ("d", "d/e/f", True),
        ("/d/", "d/e", True),
        ("d/*/f", "d/e/f/g", True),
        ("*\n!a", "a", False),
        ("*\n!a", "b", True),
        ("!a\n*", "a", True),
        ("d\n!d/keep", "d/keep/x", False),
        ("d\n!d/keep", "d/other", True),
        ("#a\n\n  b  ", "b", True),
        ("#a", "#a", False),
        ("[ab]?", "bc", True),
        ("[^ab]?", "bc", False),
        ("../x", "x", True),
        ("\ufeffa", "a", True),
    ],
)
def test_the_last_pattern_that_matches_decides(text: str, path: str, is_left_out: bool) -> None:
    assert Ignore(text).leaves_out(path) is is_left_out


def test_only_a_file_with_exceptions_needs_folders_to_be_searched() -> None:
    assert not Ignore("a").may_keep
    assert Ignore("a\n!a/b").may_keep
