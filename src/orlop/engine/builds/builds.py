"""Build images from Dockerfiles."""

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from orlop.build import graph
from orlop.build.arguments import PROXIES, of_platforms
from orlop.build.ignore import Ignore
from orlop.build.parse import MOST_BYTES, Dockerfile, parse
from orlop.engine.answers import Pruned
from orlop.engine.builds import folder, usage
from orlop.engine.builds.cache import Cache, Flights
from orlop.engine.builds.cache_mounts import Caches
from orlop.engine.builds.layers import Layers
from orlop.engine.builds.order import InOrder
from orlop.engine.builds.request import BuildEvent, BuildRequest, Tell
from orlop.engine.builds.stage import run_stage
from orlop.engine.builds.stages import Stages, Tools, global_arguments
from orlop.engine.containers.containers import Containers
from orlop.engine.context import Context
from orlop.engine.filters import label_matches, refuse_unknown
from orlop.engine.garbage import remove_garbage
from orlop.engine.images.images import Images
from orlop.engine.images.transfer import leased
from orlop.engine.requests import NO_FILTERS, Filters
from orlop.engine.threads import in_thread
from orlop.engine.when import parse_until
from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.images.build import Draft
from orlop.model.image import History
from orlop.model.platform import host_platform, parse_platform
from orlop.store.leases import Lease

_EPOCH = "SOURCE_DATE_EPOCH"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Builds:
    """The use cases of building."""

    def __init__(self, context: Context, *, images: Images, containers: Containers) -> None:
        self._context = context
        self._images = images
        self._containers = containers
        self._flights = Flights()
        self._caches = Caches(context.settings.build_caches)

    async def resume(self) -> None:
        """Remove what builds of an engine before this one have left on disk."""
        settings = self._context.settings
        await in_thread(folder.remove_old, settings.builds)
        await in_thread(folder.remove_old, settings.build_secrets)

    async def build(self, request: BuildRequest, source: AsyncIterator[bytes], tell: Tell) -> str:
        """Build the image whose context is the tar *source*; returns its id.

        Raises:
            InvalidArgumentError: the Dockerfile or the context is wrong.
            CommandFailedError: a RUN ended with a status other than 0.
        """
        async with (
            leased(self._context) as lease,
            folder.build_folder(self._context.settings.builds) as own,
        ):
            await folder.unpack(source, own / "context")
            with (
                _opened(own) as own_fd,
                _opened(own / "context") as root,
            ):
                file = await in_thread(_read_dockerfile, root, request.dockerfile)
                tools = Tools(
                    request=request,
                    images=self._images,
                    containers=self._containers,
                    layers=Layers(self._context, self._images, lease),
                    cache=Cache(self._context, lease, self._flights, reads=not request.no_cache),
                    caches=self._caches,
                    secrets_folder=self._context.settings.build_secrets,
                    context=root,
                    folder=own,
                    own=own_fd,
                    created=_created(request),
                    platforms=_platforms(request),
                )
                return await self._solve(file, tools, tell, lease)

    async def prune(
        self, filters: Filters = NO_FILTERS, *, everything: bool = False, keep_bytes: int = 0
    ) -> Pruned:
        """Remove from the cache what no image has, or *everything*.

        The filter "until" is about the last use. *keep_bytes* of the latest may stay. Nothing in
        it has labels: `docker system prune` sends filters by label here, too.
        """
        refuse_unknown(filters, {"until", "unused-for", "label", "label!"})
        if not label_matches({}, filters):
            return Pruned(names=(), reclaimed=0)
        until_ns = parse_until({"until": filters.get("until") or filters.get("unused-for") or ()})
        return await self._prune(usage.Policy(everything, until_ns, keep_bytes))

    async def _prune(self, policy: usage.Policy) -> Pruned:
        unused = await in_thread(self._caches.unused)
        names, freed = await in_thread(usage.prune, self._context, policy, unused=unused)
        freed += await in_thread(remove_garbage, self._context)
        return Pruned(names=tuple(names), reclaimed=freed)

    async def _trim(self) -> None:
        """Remove what the cache does not keep by itself."""
        if await in_thread(usage.is_too_large, self._context):
            until_ns = time.time_ns() - usage.MOST_AGE_NS
            await self._prune(usage.Policy(until_ns=until_ns))
            await self._prune(usage.Policy(keep_bytes=usage.MOST_BYTES))

    async def _solve(self, file: Dockerfile, tools: Tools, tell: Tell, lease: Lease) -> str:
        request = tools.request
        target = graph.target_stage(file, request.target)
        arguments = global_arguments(file, request.arguments, tools.platforms)
        needed = graph.needed(file, target, arguments)
        told = InOrder(
            _counted(tell, sum(1 + len(stage.steps) for stage in needed)),
            [stage.number for stage in needed],
        )
        stages = Stages(file, tools, told, run_stage)
        image = _labelled(await stages.solve(needed), request, tools.created)
        unused = request.arguments.keys() - stages.used - PROXIES - {_EPOCH}
        unused -= {word.partition("=")[0] for one in file.arguments for word in one.args}
        if unused:
            names = " ".join(sorted(unused))[:500]
            text = f"[Warning] One or more build-args [{names}] were not consumed"
            await tell(BuildEvent(kind="notice", text=text))
        found = await tools.cache.find_image(image)
        built = found or await self._images.store(image, lease)
        if found is None:
            await tools.cache.put_image(image, built)
        self._context.spawn(self._trim())
        return await self._images.keep(built, request.tags)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, _FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def _counted(tell: Tell, total: int) -> Tell:
    """Return *tell*, with the steps numbered."""
    number = 0

    async def numbered(event: BuildEvent) -> None:
        nonlocal number
        if event.kind == "step":
            number += 1
        await tell(replace(event, number=number, total=total))

    return numbered


def _read_dockerfile(root: int, path: str) -> Dockerfile:
    """Parse the Dockerfile, and remove from the context what .dockerignore says of it."""
    try:
        data = folder.read_text(root, path, most_bytes=MOST_BYTES)
    except NotFoundError as error:
        raise InvalidArgumentError(
            f"Cannot locate specified Dockerfile: {path[:300]}", hint=str(error)
        ) from None
    try:
        text = folder.read_text(root, ".dockerignore", most_bytes=MOST_BYTES)
    except NotFoundError:
        text = b""
    ignore = Ignore(text.decode(errors="replace"))
    for name in (path, ".dockerignore"):
        if ignore.leaves_out(name.lstrip("/")):
            folder.remove_file(root, name)
    return parse(data, path)


def _labelled(image: Draft, request: BuildRequest, created: str) -> Draft:
    """Return the image with the labels of the request."""
    if not request.labels:
        return image
    process = image.config.config
    labels = {**process.labels, **request.labels}
    by = "LABEL " + " ".join(f"{name}={value}" for name, value in request.labels.items())
    return image.extended(replace(process, labels=labels), History(created=created, created_by=by))


def _created(request: BuildRequest) -> str:
    """Return the time of new steps: now, or what SOURCE_DATE_EPOCH says."""
    text = request.arguments.get(_EPOCH, "")
    try:
        seconds = int(text) if text else time.time()
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidArgumentError(f"{_EPOCH}={text[:50]} is no time") from None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _platforms(request: BuildRequest) -> dict[str, str]:
    host = host_platform()
    target = parse_platform(request.platform) if request.platform else host
    return of_platforms(target, host)
