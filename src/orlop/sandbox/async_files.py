"""Files of a sandbox for programs with an event loop."""

import os
from collections.abc import AsyncIterator
from functools import partial

from orlop.sandbox.file_data import Data
from orlop.sandbox.files import GET_LIMIT, READ_LIMIT, Files
from orlop.sandbox.threads import in_thread


class AsyncFiles:
    """See Files."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def read(self, path: str, *, limit: int | None = READ_LIMIT) -> bytes:
        """See Files.read."""
        return await in_thread(partial(self._files.read, path, limit=limit))

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """See Files.stream."""
        pieces = self._files.stream(path)
        try:
            while (piece := await in_thread(lambda: next(pieces, None))) is not None:
                yield piece
        finally:
            await in_thread(pieces.close)

    async def write(self, path: str, data: Data, *, mode: int = 0o644, user: str = "") -> None:
        """See Files.write."""
        await in_thread(partial(self._files.write, path, data, mode=mode, user=user))

    async def put(self, source: str | os.PathLike[str], path: str, *, user: str = "") -> None:
        """See Files.put."""
        await in_thread(partial(self._files.put, source, path, user=user))

    async def get(
        self, path: str, target: str | os.PathLike[str], *, limit: int | None = GET_LIMIT
    ) -> None:
        """See Files.get."""
        await in_thread(partial(self._files.get, path, target, limit=limit))
