"""Starts take turns: so many at once, owners one after the other, and too many are told so."""

import asyncio
from collections.abc import Sequence

import pytest

from orlop.engine.turns import Turns
from orlop.errors import ExhaustedError, UnavailableError


def in_order(owners: Sequence[str]) -> list[str]:
    """Return whose turn came when, where *owners* have asked in this order and one may go."""

    async def all_of_them() -> list[str]:
        turns = Turns(at_once=1)
        had: list[str] = []

        async def one(owner: str) -> None:
            await turns.take(owner)
            had.append(owner)
            await asyncio.sleep(0)
            turns.give_back()

        await turns.take("first")
        tasks = [asyncio.create_task(one(owner)) for owner in owners]
        await asyncio.sleep(0)
        turns.give_back()
        await asyncio.gather(*tasks)
        assert turns.waiting == 0
        return had

    return asyncio.run(all_of_them())


def test_owners_take_turns() -> None:
    assert in_order("aaaab") == list("abaaa")
    assert in_order("aabbc") == list("abcab")


def test_so_many_at_once() -> None:
    async def some() -> None:
        turns = Turns(at_once=2)
        await turns.take("a")
        await turns.take("a")
        third = asyncio.create_task(turns.take("a"))
        await asyncio.sleep(0)
        assert turns.waiting == 1
        turns.give_back()
        await third
        assert turns.waiting == 0

    asyncio.run(some())


def test_busy_is_said() -> None:
    async def too_many() -> None:
        turns = Turns(at_once=1, most_waiting=1)
        await turns.take("a")
        waiting = asyncio.create_task(turns.take("a"))
        await asyncio.sleep(0)
        with pytest.raises(ExhaustedError, match="the engine is busy: 1 starts are waiting"):
            await turns.take("b")
        turns.give_back()
        await waiting

    asyncio.run(too_many())


@pytest.mark.parametrize("is_given", [False, True])
def test_turn_of_who_gives_up_is_another_s(is_given: bool) -> None:
    async def gives_up() -> None:
        turns = Turns(at_once=1)
        await turns.take("a")
        impatient = asyncio.create_task(turns.take("b"))
        patient = asyncio.create_task(turns.take("c"))
        await asyncio.sleep(0)
        if is_given:
            turns.give_back()
        impatient.cancel()
        await asyncio.wait({impatient})
        if not is_given:
            turns.give_back()
        async with asyncio.timeout(5):
            await patient
        turns.give_back()
        await turns.take("a")

    asyncio.run(gives_up())


def test_who_has_ended_gets_no_turn() -> None:
    async def ends() -> None:
        turns = Turns(at_once=1)
        await turns.take("a")
        ended = [asyncio.create_task(turns.take("b")) for _ in range(3)]
        patient = asyncio.create_task(turns.take("c"))
        await asyncio.sleep(0)
        turns.drop("b")
        turns.drop("nobody")
        assert turns.waiting == 1
        for turn in ended:
            with pytest.raises(UnavailableError):
                await turn
        turns.give_back()
        async with asyncio.timeout(5):
            await patient

    asyncio.run(ends())
