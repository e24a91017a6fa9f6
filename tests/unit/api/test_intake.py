"""Shares of programs: how many connections, and requests under way, each may have."""

import asyncio
from collections.abc import Callable

import pytest

from orlop.api.intake import Intake, Share
from orlop.errors import ExhaustedError

MOST_OPEN = 64  # so 32 connections, 24 of one program; 4 requests, 2 of one program


def in_loop(test: Callable[[Intake], None]) -> None:
    async def run() -> None:
        test(Intake(MOST_OPEN, gone=lambda _: None))

    asyncio.run(run())


def joined(intake: Intake, owner: str) -> Share:
    return intake.join(owner, lambda: None)


def test_connections_are_limited_of_each_and_of_all() -> None:
    def connect(intake: Intake) -> None:
        def leave() -> None:
            raise AssertionError("it has not ended")

        mine = [joined(intake, "a") for _ in range(23)]
        last = intake.join("a", leave)
        with pytest.raises(ExhaustedError, match="24 of this program"):
            joined(intake, "a")
        assert len({id(share) for share in (*mine, last)}) == 1
        for _ in range(8):
            joined(intake, "b")
        with pytest.raises(ExhaustedError, match="32 connections"):
            joined(intake, "c")
        last.leave(leave)
        joined(intake, "c")

    in_loop(connect)


def test_who_waits_goes_on_in_turns_past_those_that_need_not() -> None:
    def ask(intake: Intake) -> None:
        went: list[str] = []

        def going(name: str) -> Callable[[], bool]:
            def go() -> bool:
                went.append(name)
                return name.islower()

            return go

        one, two, three = (joined(intake, owner) for owner in "abc")
        for share in (one, one, two, two):
            assert not share.is_full
            share.begin(10)
        assert one.is_full
        assert three.is_full  # as all are
        one.wait(going("GONE"))
        one.wait(going("a"))
        two.wait(going("b"))
        three.wait(going("c"))
        assert intake.held_back == 4
        one.done()
        assert went == ["GONE", "a"]
        assert intake.held_back == 2
        one.begin(10)
        one.done()
        assert went == ["GONE", "a", "c"]  # two has its share
        two.done()
        assert went == ["GONE", "a", "c", "b"]

    in_loop(ask)


def test_program_that_comes_again_has_what_it_asked_for_yet() -> None:
    def come_again(intake: Intake) -> None:
        def end() -> None:
            raise AssertionError("it has not ended")

        share = intake.join("a", end)
        share.begin(10)
        share.begin(10)
        share.leave(end)
        again = joined(intake, "a")
        assert again.is_full
        share.done()
        assert not again.is_full

    in_loop(come_again)


@pytest.mark.parametrize(("count", "size"), [(16, 10), (1, 1 << 20)])
def test_program_has_its_turn_once_a_round(count: int, size: int) -> None:
    async def rounds() -> None:
        share = joined(Intake(1 << 20, gone=lambda _: None), "a")
        for _ in range(2):
            for _ in range(count):
                assert not share.has_had_turn
                share.begin(size)
            assert share.has_had_turn
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(rounds())
