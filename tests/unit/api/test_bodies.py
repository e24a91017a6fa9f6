"""Request bodies that are read into memory."""

import asyncio

import pytest

from orlop.api.messages import MOST_HELD_BYTES, Body
from orlop.errors import UnavailableError

_EACH = 8 << 20


def _body() -> Body:
    return Body(on_first_read=lambda: None, on_room=lambda: None)


def test_bodies_of_all_clients_together_take_no_more_memory_than_there_is_for_them() -> None:
    async def scene() -> None:
        bodies = [_body() for _ in range(MOST_HELD_BYTES // _EACH + 1)]
        reading = [asyncio.ensure_future(body.read(2 * _EACH)) for body in bodies]
        for body in bodies:
            body.feed(bytes(_EACH))
        await asyncio.wait({reading[-1]})
        with pytest.raises(UnavailableError, match="busy"):
            reading[-1].result()
        bodies[0].end(lost=True)
        with pytest.raises(ConnectionResetError):
            await reading[0]
        again = _body()
        again.feed(bytes(_EACH))
        again.end()
        assert len(await again.read(2 * _EACH)) == _EACH
        for body in bodies[1:-1]:
            body.end()
        assert [len(await one) for one in reading[1:-1]] == [_EACH] * (len(bodies) - 2)

    asyncio.run(asyncio.wait_for(scene(), 20))
