"""All stages of one build: each is solved once, beside those that do not need it."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orlop.build.arguments import declared
from orlop.build.parse import Dockerfile, Stage
from orlop.engine.answers import ImageRecord, Progress
from orlop.engine.builds.cache import Cache
from orlop.engine.builds.cache_mounts import Caches
from orlop.engine.builds.layers import Layers
from orlop.engine.builds.order import InOrder
from orlop.engine.builds.request import BuildEvent, BuildRequest
from orlop.engine.containers.containers import Containers
from orlop.engine.images.host import HOST
from orlop.engine.images.images import Images
from orlop.errors import ImageNotFoundError, InvalidArgumentError
from orlop.images.build import Draft
from orlop.model.platform import Platform, parse_platform, preference
from orlop.model.reference import parse_reference


class Tools(NamedTuple):
    """What the steps of one build work with. It ends with the build."""

    request: BuildRequest
    images: Images
    containers: Containers
    layers: Layers
    cache: Cache
    caches: Caches  # of cache mounts
    secrets_folder: Path  # in memory, if the run folder is
    context: int  # the client's files, an open folder
    folder: Path  # the build's own, with the client's files in it
    own: int  # that folder, open
    created: str  # the time of new steps, RFC 3339
    platforms: Mapping[str, str]  # the automatic arguments


class Stages:
    """*run* solves one stage."""

    def __init__(self, file: Dockerfile, tools: Tools, told: InOrder, run: "Run") -> None:
        self.file = file
        self.tools = tools
        self.told = told
        self._run = run
        self.arguments = global_arguments(file, tools.request.arguments, tools.platforms)
        self.used: set[str] = set()  # arguments of the request that an ARG has declared
        self._tasks: dict[int, asyncio.Task[Draft]] = {}
        self._pulls: dict[str, asyncio.Task[ImageRecord]] = {}

    async def solve(self, stages: Sequence[Stage]) -> Draft:
        """Solve *stages*, in the file's order, and return the last one's image."""
        try:
            for stage in stages:
                self._tasks[stage.number] = asyncio.ensure_future(self._run(self, stage))
            await asyncio.gather(*self._tasks.values())
            return self._tasks[stages[-1].number].result()
        finally:
            tasks = [*self._tasks.values(), *self._pulls.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def image_of(self, stage: Stage) -> Draft:
        """Return the image of a stage that is being solved."""
        return await asyncio.shield(self._tasks[stage.number])

    async def pulled(self, name: str, platform: str, stage: Stage) -> Draft:
        """Return an image that is here, or in a registry. Errors as Images.pull()'s."""
        if name == HOST:
            raise InvalidArgumentError(
                f"the image {HOST} is this machine's own: nothing can be built from it"
            )
        key = f"{name} {platform}"
        if key not in self._pulls:
            self._pulls[key] = asyncio.ensure_future(self._pull(name, platform, stage))
        record = await asyncio.shield(self._pulls[key])
        image = self.tools.images.base(record)
        await self.tools.layers.ready(image)
        return image

    async def _pull(self, name: str, platform: str, stage: Stage) -> ImageRecord:
        images, request = self.tools.images, self.tools.request
        try:
            found = images.resolve(name)
        except ImageNotFoundError:
            found = None
        fits = found is not None and _fits(found, platform)
        if found is not None and fits and not (request.pull and _has_name(name)):
            return found
        reference = parse_reference(name)
        seen: set[tuple[str, str]] = set()

        def progress(one: Progress) -> None:
            if (one.id, one.status) not in seen and not one.total:
                seen.add((one.id, one.status))
                text = f"{one.id}: {one.status}" if one.id else one.status
                self.told.note(stage.number, BuildEvent(kind="notice", text=text))

        return await images.pull(
            reference,
            platform=platform or None,
            credentials=request.credentials.get(reference.domain),
            progress=progress,
        )


Run = Callable[[Stages, Stage], Coroutine[Any, Any, Draft]]


def global_arguments(
    file: Dockerfile, given: Mapping[str, str], platforms: Mapping[str, str]
) -> dict[str, str]:
    """Return the values of the ARGs before the first FROM, and the automatic ones."""
    found: dict[str, str] = dict(platforms)
    for one in file.arguments:
        new = declared(one, found, given, inherited=found, escape=file.escape)
        found |= {name: value for name, value in new.items() if value is not None}
    return found


def _fits(image: ImageRecord, platform: str) -> bool:
    actual: Platform = image.config.platform.normalized()
    return not platform or actual in preference(parse_platform(platform))


def _has_name(name: str) -> bool:
    return not name.startswith("sha256:")
