"""What stages tell at the same time comes in the order of the stages."""

import asyncio

from orlop.engine.builds.order import InOrder
from orlop.engine.builds.request import BuildEvent


def told(stage: int, text: str) -> BuildEvent:
    return BuildEvent(kind="output", stage=str(stage), text=text)


def test_later_stages_are_held_until_earlier_ones_have_finished() -> None:
    heard: list[str] = []

    async def hear(event: BuildEvent) -> None:
        heard.append(event.text)

    async def work() -> list[list[str]]:
        order = InOrder(hear, [0, 2, 5])
        await order.tell(2, told(2, "b"))
        await order.tell(0, told(0, "a"))
        await order.finish(5)
        await order.tell(2, told(2, "c"))
        seen = [list(heard)]
        await order.finish(0)
        seen.append(list(heard))
        await order.tell(2, told(2, "d"))
        await order.finish(2)
        return [*seen, list(heard)]

    assert asyncio.run(work()) == [["a"], ["a", "b", "c"], ["a", "b", "c", "d"]]


def test_a_stage_that_fails_tells_what_it_has_at_once() -> None:
    heard: list[str] = []

    async def hear(event: BuildEvent) -> None:
        heard.append(event.text)

    async def work() -> None:
        order = InOrder(hear, [0, 1])
        await order.tell(1, told(1, "why"))
        await order.fail(1)

    asyncio.run(work())
    assert heard == ["why"]


def test_a_stage_with_much_output_waits_for_its_turn() -> None:
    async def hear(event: BuildEvent) -> None:
        pass

    async def work() -> bool:
        order = InOrder(hear, [0, 1])
        big = BuildEvent(kind="output", data=bytes(2 << 20))
        await order.tell(1, big)
        waiting = asyncio.ensure_future(order.tell(1, big))
        await asyncio.sleep(0)
        was_waiting = not waiting.done()
        await order.finish(0)
        await asyncio.wait_for(waiting, 10)
        return was_waiting

    assert asyncio.run(work())
