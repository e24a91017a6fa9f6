"""Pull and push: between a registry and this machine."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial

from orlop.engine.answers import Progress, ProgressCallback
from orlop.engine.context import Context
from orlop.engine.images.catalog import Catalog
from orlop.engine.images.unpacking import LayerListener, Unpacker
from orlop.engine.requests import Credentials
from orlop.engine.threads import abroad, in_thread
from orlop.errors import NotFoundError
from orlop.images import auth, push
from orlop.images.progress import Kind
from orlop.images.pull import Resolved, resolve
from orlop.images.registry import Registry, source_of
from orlop.model.digest import Digest
from orlop.model.image import Descriptor
from orlop.model.platform import Platform, parse_platform
from orlop.model.reference import Reference
from orlop.store.leases import Lease
from orlop.store.metadata import ImageRecord as Stored

_EVERY_S = 0.1
_PUSHED = {Kind.EXISTS: "Layer already exists", Kind.MOUNT: "Mounted from another repository"}


class Transfers:
    """What a registry and the store say to each other."""

    def __init__(self, context: Context, catalog: Catalog, unpacker: Unpacker) -> None:
        self._context = context
        self._catalog = catalog
        self._unpacker = unpacker

    async def pull(
        self,
        reference: Reference,
        *,
        platform: str | None,
        credentials: Credentials | None,
        progress: ProgressCallback,
    ) -> Stored:
        """See Images.pull()."""
        wanted = parse_platform(platform) if platform else None
        source = source_of(reference, credentials_for(credentials))
        async with leased(self._context) as lease:
            registry = Registry(source)
            resolved = await abroad(
                partial(self._resolve, registry, reference, wanted, lease),
                break_off=registry.break_off,
            )
            status = f"Pulling from {reference.familiar_name.removeprefix(reference.domain + '/')}"
            progress(Progress(status=status, id=reference.target))
            lease.add(*(layer.descriptor.digest for layer in resolved.layers))
            for layer in resolved.layers:
                progress(Progress(status="Pulling fs layer", id=short(layer.descriptor.digest)))
            listener = pulled(progress)
            await self._unpacker.unpack(resolved.layers, source=source, listener=listener)
            record = Stored(
                name=str(reference),
                target=resolved.target,
                manifest=resolved.descriptor,
                config=resolved.manifest.config.digest,
                created_ns=time.time_ns(),
            )
            await in_thread(self._context.metadata.images.put, record)  # from here on it exists
            self._catalog.changed()
        return record

    async def push(
        self,
        reference: Reference,
        *,
        credentials: Credentials | None,
        progress: ProgressCallback,
    ) -> Descriptor:
        """See Images.push()."""
        records = {record.name: record for record in self._context.metadata.images.list()}
        record = records.get(str(reference))
        if record is None:
            raise NotFoundError(
                f"An image does not exist locally with the tag: {reference.familiar_name}",
                hint="tag one",
            )
        source = source_of(reference, credentials_for(credentials))
        loop = asyncio.get_running_loop()
        told = _Seldom(lambda *event: loop.call_soon_threadsafe(_tell_push, progress, *event))
        everything = list(records.values())

        def send() -> Descriptor:
            content = self._context.content
            mounts = push.mount_sources(content, everything, reference)
            with Registry(source) as registry:
                return push.push(registry, reference, record, content, mounts=mounts, progress=told)

        async with leased(self._context) as lease:
            lease.add(record.target.digest, record.manifest.digest)
            return await abroad(send)

    def _resolve(
        self, registry: Registry, reference: Reference, platform: Platform | None, lease: Lease
    ) -> Resolved:
        with registry:
            return resolve(
                registry, reference, self._context.content, platform=platform, keep=lease.add
            )


@asynccontextmanager
async def leased(context: Context) -> AsyncIterator[Lease]:
    """Hold a lease; waits, without holding up the event loop, while garbage is collected."""
    with ExitStack() as stack:
        yield await in_thread(stack.enter_context, context.metadata.leases.hold())


def pulled(progress: ProgressCallback) -> LayerListener:
    """Return a listener that tells of layers in Docker's words."""

    def listener(digest: Digest, kind: Kind, done: int, total: int) -> None:
        if kind is Kind.EXISTS:
            progress(Progress(status="Already exists", id=short(digest)))
        elif kind is Kind.UNPACK and done >= total:
            progress(Progress(status="Pull complete", id=short(digest)))
        else:
            status = "Extracting" if kind is Kind.UNPACK else "Downloading"
            progress(Progress(status=status, id=short(digest), current=done, total=total))

    return listener


def short(digest: Digest) -> str:
    return digest.partition(":")[2][:12]


def _tell_push(
    progress: ProgressCallback, digest: Digest, kind: Kind, done: int, total: int
) -> None:
    status = _PUSHED.get(kind) or ("Pushed" if done >= total else "Pushing")
    progress(Progress(status=status, id=short(digest), current=done, total=total))


class _Seldom:
    """Passes on progress of a blob ten times a second at most, and its end."""

    def __init__(self, tell: Callable[[Digest, Kind, int, int], object]) -> None:
        self._tell = tell
        self._last_s: dict[Digest, float] = {}

    def __call__(self, digest: Digest, kind: Kind, done: int, total: int, /) -> None:
        now_s = time.monotonic()
        if done >= total or now_s - self._last_s.get(digest, 0.0) >= _EVERY_S:
            self._last_s[digest] = now_s
            self._tell(digest, kind, done, total)


def credentials_for(credentials: Credentials | None) -> auth.Credentials | None:
    if credentials is None:
        return None
    return auth.Credentials(
        username=credentials.username,
        password=credentials.password,
        identity_token=credentials.identity_token,
        registry_token=credentials.registry_token,
    )
