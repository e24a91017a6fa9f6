"""What the instructions of one stage change: an image in memory, and the variables in scope."""

import time
from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from orlop.build.config import Scope
from orlop.build.parse import Instruction, Stage
from orlop.engine.builds.cache import Made, Step, below, digest
from orlop.engine.builds.request import BuildEvent
from orlop.engine.builds.stages import Stages
from orlop.images.build import Draft, draft
from orlop.images.pull import Layer
from orlop.model.image import History, Process

Make = Callable[[], Awaitable[Layer]]
Inputs = Mapping[str, str]


class State:
    def __init__(self, stages: Stages, stage: Stage) -> None:
        self.stages = stages
        self.tools = stages.tools
        self.stage = stage
        self.scope = Scope({}, stages.file.escape)
        self.image: Draft = draft()
        self.has_command = False  # whether this stage has set CMD

    @property
    def process(self) -> Process:
        return self.image.config.config

    @property
    def name(self) -> str:
        return self.stage.name or str(self.stage.number)

    def set_process(self, process: Process) -> None:
        """Change the configuration, without a step in the history."""
        self.image = self.image._replace(config=replace(self.image.config, config=process))

    def extend(self, process: Process, by: str, made: Made | None = None) -> None:
        """Add a step to the history, *by* the instruction, and the layer that it has made."""
        created, layer = (made.created, made.layer) if made else (self.tools.created, None)
        step = History(created=created, created_by=" ".join(by.split()))
        author = self.image.config.author
        self.image = self.image.extended(process, step, layer)
        self.image = self.image._replace(config=replace(self.image.config, author=author))

    async def tell(self, event: BuildEvent) -> None:
        await self.stages.told.tell(self.stage.number, replace(event, stage=self.name))

    def expanded(self, one: Instruction, text: str) -> str:
        """Return *text* with the variables in scope. InvalidArgumentError with the place."""
        try:
            return self.scope.expander(self.process)(text)
        except ValueError as error:
            raise one.wrong(error) from None

    async def grown(
        self,
        one: Instruction,
        inputs: Inputs,
        make: Make,
        *,
        exact: Callable[[], Awaitable[Inputs]] | None = None,
    ) -> Made:
        """Return what the step has made before from the same *inputs*, or have it made.

        *exact*, if given, returns inputs that take longer to find, but differ more seldom.
        """
        step = self._step(one, inputs)
        cache = self.tools.cache
        async with cache.flights.alone(step.key):
            found = await cache.find(step)
            if found is None and exact is not None:
                real = self._step(one, await exact())
                found = await self._found_or_made(real, make)
                await cache.put(step, found)
                return found
            if found is not None:
                await self.tell(BuildEvent(kind="cached", text=found.layer.diff_id))
                await self._ready(found)
                return found
            return await self._make(step, make)

    async def _found_or_made(self, step: Step, make: Make) -> Made:
        async with self.tools.cache.flights.alone(step.key):
            found = await self.tools.cache.find(step)
            if found is None:
                return await self._make(step, make)
        await self.tell(BuildEvent(kind="cached", text=found.layer.diff_id))
        await self._ready(found)
        return found

    async def _make(self, step: Step, make: Make) -> Made:
        why, begun_s = await self.tools.cache.why(step), time.monotonic()
        made = Made(await make(), self.tools.created)
        await self._ready(made)
        await self.tools.cache.put(step, made)  # from here on it is found: all of it is stored
        seconds = time.monotonic() - begun_s
        done = BuildEvent(kind="done", text=made.layer.diff_id, seconds=seconds, why=why)
        await self.tell(done)
        return made

    async def _ready(self, made: Made) -> None:
        """Have the layer ready to be mounted on those below it."""
        image = self.image.extended(self.process, History(), made.layer)
        await self.tools.layers.ready(image)

    def _step(self, one: Instruction, inputs: Inputs) -> Step:
        place = digest(self.tools.request.dockerfile, self.name, one.place)
        return Step(place, one.text, {"files below": below(self.image), "step": one.name, **inputs})


def check_flags(one: Instruction, known: frozenset[str]) -> dict[str, str]:
    """Return the flags by name, the last of several. InvalidArgumentError if one is unknown."""
    for name, _ in one.flags:
        if name not in known:
            raise one.wrong(f"unknown flag: --{name}")
    return dict(one.flags)
