"""The pool that everything made ahead or used again is kept in."""

import itertools
from collections.abc import Iterator

import pytest

from orlop.model.pool import ObjectPool, Stock

ended: list[int] = []


@pytest.fixture(autouse=True)
def nothing_ended() -> Iterator[None]:
    ended.clear()
    yield
    ended.clear()


def pool(size: int = 4, each: int | None = None, ahead: int = 0) -> ObjectPool[int]:
    """Return one that takes odd numbers back, and gives none below zero out."""
    return ObjectPool(
        end=ended.append,
        check=lambda number: number >= 0,
        reset=lambda number: number % 2 == 1,
        size=size,
        each=each,
        ahead=ahead,
    )


def test_the_latest_is_taken_first_and_requests_are_counted() -> None:
    made = pool()
    assert made.take() is None
    assert made.give_back(1)
    assert made.give_back(3)
    assert made.take() == 3
    assert made.stock == Stock(ready=1, most=4, hits=1, misses=1)


def test_one_that_is_no_good_any_more_is_ended_and_the_next_taken() -> None:
    made = pool()
    made.want()
    made.put(1)
    made.put(-1)
    assert made.take() == 1
    assert ended == [-1]


def test_one_that_cannot_be_reset_is_ended() -> None:
    made = pool()
    made.want()
    assert not made.give_back(2)
    assert not made.give_back(1, reusable=False)
    assert ended == [2, 1]


def test_kinds_are_kept_apart_and_forgotten_ones_not_kept() -> None:
    made = pool()
    assert made.get("a", lambda: 1) == 1
    assert made.give_back(1, "a")
    assert made.take("b") is None
    made.forget("a")
    assert not made.give_back(3, "a")
    assert ended == [1, 3]


def test_the_kind_with_most_makes_way_when_the_pool_is_full() -> None:
    made = pool(size=3)
    made.want("a")
    made.want("b")
    assert all(made.put(number, "a") for number in (1, 3, 5))
    assert made.put(7, "b")
    assert made.put(9, "b")
    assert not made.put(11, "b")
    assert ended == [1, 3, 11]


def test_the_first_kind_that_has_one_is_taken_and_counted_once() -> None:
    made = pool()
    assert made.take("a", "b") is None
    made.put(1, "b")
    assert made.take("a", "b") == 1
    assert made.take("a", "b", again=True) is None
    assert made.stock == Stock(ready=0, most=4, hits=1, misses=1)
    assert made.kinds == ["a", "b"]


def test_no_more_than_each_of_a_kind_wait() -> None:
    made = pool(each=1)
    made.want("a")
    assert made.put(1, "a")
    assert not made.put(3, "a")


def test_refill_makes_what_is_missing_and_keeps_errors_to_itself() -> None:
    numbers = itertools.count(1)

    def refuse() -> int:
        raise OSError("no room")

    made = pool(ahead=2)
    assert not made.refill()
    made.want("a", refuse)
    made.want("b", lambda: next(numbers))
    while made.refill():
        pass
    assert sorted(made) == [1, 2]


def test_what_is_lent_is_ended_if_the_body_raises() -> None:
    made = pool()
    with made.lent(None, lambda: 1) as number:
        assert number == 1
    with pytest.raises(ValueError, match="odd"), made.lent(None, lambda: 3):
        raise ValueError("odd")
    assert ended == [1]
    assert made.waiting == 0


def test_some_are_withdrawn_others_trimmed_and_the_rest_emptied() -> None:
    made = pool()
    made.want()
    for number in (1, 3, 5):
        made.put(number)
    assert made.withdraw(lambda number: number == 3) == [3]
    made.trim(60)
    assert ended == []
    made.trim(0)
    assert ended == [1, 5]
    made.put(7)
    made.empty()
    assert made.put(9)
    made.close()
    assert not made.put(11)
    assert ended == [1, 5, 7, 9, 11]
