"""A function mapped over many inputs, each in a sandbox of its own, a few at a time.

    python examples/map_inputs.py 1000

One input that crashes, hangs or fills its memory fails alone.
"""

import asyncio
import sys
from collections.abc import Iterable

import orlop

WORKER = """
import sys
number = int(sys.stdin.read())
if number % 100 == 13:
    sys.exit("cannot do " + str(number))
print(number ** 2)
"""


async def square(pool: orlop.AsyncPool, number: int) -> int | None:
    """Return the worker's answer for *number*, None where it has none."""
    async with await pool.take() as box:
        result = await box.run(["python3", "-c", WORKER], input=b"%d" % number, timeout=60)
    return int(result.stdout) if result.exit_code == 0 else None


async def squares(numbers: Iterable[int], *, at_once: int = 8) -> list[int | None]:
    """Return the answers in the order of *numbers*."""
    turns = asyncio.Semaphore(at_once)

    async def in_turn(number: int) -> int | None:
        async with turns:
            return await square(pool, number)

    async with orlop.AsyncPool(size=at_once, memory="128m", pids=20) as pool:
        return await asyncio.gather(*(in_turn(number) for number in numbers))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    answers = asyncio.run(squares(range(count)))
    done = [answer for answer in answers if answer is not None]
    print(f"{len(done)} of {count} done, {sum(done)} in all")


if __name__ == "__main__":
    main()
