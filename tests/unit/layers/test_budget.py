"""Budgets as an operator writes them."""

import pytest

from orlop.errors import InvalidArgumentError
from orlop.layers.budget import Budget, parse_budget


def test_no_text_is_the_default_budget() -> None:
    assert parse_budget("") == Budget()


def test_named_budgets_are_changed_and_others_stay() -> None:
    assert parse_budget("entries=10,depth=512") == Budget(entries=10, depth=512)


@pytest.mark.parametrize(
    "text", ["inodes=5", "entries", "entries=-1", "entries=many", "depth=\u0664"]
)
def test_unknown_or_malformed_budgets_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="layer budget"):
        parse_budget(text)
