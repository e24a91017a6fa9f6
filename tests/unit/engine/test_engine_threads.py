"""Who waits for another machine holds up nobody who does not."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from orlop.engine.threads import abroad, in_thread


def test_calls_that_wait_for_other_machines_leave_threads_for_the_engine() -> None:
    answered = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        waiting = [asyncio.ensure_future(abroad(answered.wait)) for _ in range(100)]
        await asyncio.sleep(0)
        assert await in_thread(lambda: "done") == "done"
        answered.set()
        assert all(await asyncio.gather(*waiting))

    asyncio.run(asyncio.wait_for(main(), 60))


def test_cancelled_call_is_broken_off_and_waited_for() -> None:
    begun, broken = threading.Event(), threading.Event()

    def ask() -> None:
        begun.set()
        broken.wait(60)

    async def main() -> None:
        task = asyncio.ensure_future(abroad(ask, break_off=broken.set))
        await in_thread(begun.wait, 60)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(main())
    assert broken.is_set()
