"""The engine: every use case, one object."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orlop.engine.containers.containers import Containers
from orlop.engine.events import Events
from orlop.engine.execs import Execs
from orlop.engine.images.images import Images
from orlop.engine.settings import Settings
from orlop.engine.system import System
from orlop.engine.volumes import Volumes


class Engine:
    """All that a client can ask for. Used from one event loop only."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.events = Events()
        self.volumes = Volumes()
        self.images = Images()
        self.containers = Containers()
        self.execs = Execs()
        self.system = System()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Engine"]:
        """Take possession of the state and put right what a crash left; let go at the end.

        Containers run on when the engine is closed. WrongStateError when another
        engine holds this state.
        """
        yield cls(settings)
