"""Images: what containers are made from."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import msgspec

from orlop.engine.answers import (
    Deleted,
    Distribution,
    HistoryStep,
    ImageRecord,
    ImageSummary,
    ProgressCallback,
    Pruned,
)
from orlop.engine.context import Context
from orlop.engine.images.catalog import Catalog
from orlop.engine.images.distribution import distribution, tags
from orlop.engine.images.filters import matcher, with_named
from orlop.engine.images.host import HOST, add_host_layer
from orlop.engine.images.making import Maker, layers_of
from orlop.engine.images.removal import Remover
from orlop.engine.images.stacking import Stacks
from orlop.engine.images.transfer import Transfers, leased
from orlop.engine.images.unpacking import Unpacker
from orlop.engine.requests import NO_FILTERS, CommitRequest, Credentials, Filters
from orlop.engine.threads import in_thread
from orlop.errors import WrongStateError
from orlop.images.build import Built, Draft, store_image
from orlop.images.pull import Layer
from orlop.model.container import Container
from orlop.model.image import Descriptor
from orlop.model.moments import rfc3339_ns
from orlop.model.reference import Reference
from orlop.snapshots.interface import LayerKey, Snapshots
from orlop.store.leases import Lease
from orlop.store.metadata import ImageRecord as Stored

#: Holds a container still while inside.
Hold = Callable[[Container], AbstractAsyncContextManager[None]]


class Images:
    """The use cases of images."""

    def __init__(self, context: Context, *, hold: Hold = lambda _: nullcontext()) -> None:
        self._context = context
        self._hold = hold
        self._catalog = Catalog(context.content, context.metadata)
        self._unpacker = Unpacker(context, self._catalog)
        self._transfers = Transfers(context, self._catalog, self._unpacker)
        self._maker = Maker(context, self._catalog, self._unpacker)
        self._remover = Remover(context, self._catalog)

    async def close(self) -> None:
        """End the workers."""
        await self._context.workers.close()

    def resolve(self, ref: str | Reference) -> ImageRecord:
        """Return the image that a name, a digest or an id (or its start) means.

        NotFoundError "No such image: …". `host` is built in.
        """
        return self._catalog.resolve(ref)

    async def make_ready(self, image: ImageRecord) -> None:
        """Have its layers unpacked by the driver in use, and ready to be mounted.

        They are, once it was pulled or loaded, unless the driver was another then.
        """
        driver, keys = self._context.snapshots, [LayerKey(key) for key in image.layers]
        if driver.is_stacked(keys):
            return
        if image.manifest is None:
            await in_thread(add_host_layer, driver)
        elif not await in_thread(lambda: all(map(driver.has_layer, keys))):
            layers = layers_of(self._context, image.manifest)
            async with leased(self._context) as lease:
                lease.add(*(layer.descriptor.digest for layer in layers))
                await self.unpack(layers)
        await self._context.stacks.make_ready(keys)

    async def unpack(self, layers: Sequence[Layer]) -> None:
        """Have stored *layers*, bottom first and leased, ready to be mounted together."""
        await self._unpacker.unpack(layers, source=None, listener=lambda *_: None)

    async def add_layer(self, layer: Layer, tar: bytes) -> None:
        """Unpack a stored layer that this engine has made, from its small *tar*."""
        await self._unpacker.add(layer, tar)

    def base(self, image: ImageRecord) -> Draft:
        """Return an image that begins with *image*, which is not the built-in one."""
        return self._maker.base(image)

    async def store(self, image: Draft, lease: Lease) -> Built:
        """Store the documents of an image that was built, and lease them."""
        return await in_thread(store_image, self._context.content, image, keep=lease.add)

    async def keep(self, built: Built, names: Sequence[Reference]) -> str:
        """Give *names* to an image that was built and is leased; returns its id.

        Without names it is a dangling image.
        """
        record = await self._maker.keep(built, names)
        for name in names:
            self._tell("tag", record.config, name.familiar)
        return record.config

    async def pull(
        self,
        reference: Reference,
        *,
        platform: str | None = None,
        credentials: Credentials | None = None,
        progress: ProgressCallback,
    ) -> ImageRecord:
        """Fetch and unpack an image; what is here already is not fetched again.

        The first progress, once the registry has shown the manifest, is "Pulling from
        library/alpine" with the tag as its id; then one id a layer. What came of it
        ("Digest: …", "Status: …") is said by who renders the record.
        """
        record = await self._transfers.pull(
            reference, platform=platform, credentials=credentials, progress=progress
        )
        self._tell("pull", record.config, reference.familiar)
        return self.resolve(reference)

    async def push(
        self,
        reference: Reference,
        *,
        credentials: Credentials | None = None,
        progress: ProgressCallback,
    ) -> Descriptor:
        """Send an image; returns the manifest as the registry has it now."""
        descriptor = await self._transfers.push(
            reference, credentials=credentials, progress=progress
        )
        self._tell("push", reference.familiar, reference.familiar)
        return descriptor

    async def distribution(
        self, reference: Reference, *, credentials: Credentials | None = None
    ) -> Distribution:
        """Ask the registry what *reference* is; nothing is pulled."""
        return await distribution(reference, credentials)

    async def tags(
        self, reference: Reference, *, credentials: Credentials | None = None
    ) -> Sequence[str]:
        """Ask the registry which tags the repository of *reference* has."""
        return await tags(reference, credentials)

    async def tag(self, source: str, target: Reference) -> None:
        """Give the image *source* one more name."""
        record = self._catalog.find(source).records[0]
        self._context.metadata.images.put(
            msgspec.structs.replace(record, name=str(target), created_ns=time.time_ns())
        )
        self._catalog.changed()
        self._tell("tag", record.config, target.familiar)

    def unpacker(self, snapshots: Snapshots, stacks: Stacks) -> Unpacker:
        """Return what stores layers in a driver that is not the engine's own."""
        return Unpacker(self._context, self._catalog, snapshots=snapshots, stacks=stacks)

    async def put(self, record: Stored) -> None:
        """Store what a name means; who calls has seen to it that the documents are here."""
        await in_thread(self._context.metadata.images.put, record)
        self._catalog.changed()
        self._tell("tag", record.config, record.reference.familiar)

    async def untag(self, record: Stored, *, sync: bool) -> None:
        """Take a name away, and remove what nothing needs then: with *sync* at once."""
        await self._remover.untag(record, sync=sync)

    async def remove(
        self, ref: str, *, force: bool = False, prune: bool = True
    ) -> Sequence[Deleted]:
        """Take away the tag, or with the last tag the image; *prune*: untagged parents as well."""
        del prune  # an image is whole by itself here: no parent stays behind
        return await self._remover.remove(ref, force=force)

    async def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - Docker's word
        filters: Filters = NO_FILTERS,
    ) -> Sequence[ImageSummary]:
        """Return the images that fit, newest first."""
        del all  # there are no intermediate images
        wanted = matcher(filters, self._catalog)
        users = [container.image for container in self._context.records.all()]
        return [
            ImageSummary(image=with_named(image, filters), containers=users.count(image.id))
            for image in self._catalog.all()
            if wanted(image)
        ]

    def history(self, ref: str) -> Sequence[HistoryStep]:
        """Return the steps of an image's making, newest first."""
        image = self.resolve(ref)
        sizes = iter([self._catalog.size_of(key) for key in image.layers])
        steps = [
            HistoryStep(
                id="<missing>",
                created_ns=rfc3339_ns(step.created) or 0,
                created_by=step.created_by,
                size=0 if step.empty_layer else next(sizes, 0),
                comment=step.comment,
            )
            for step in image.config.history
        ]
        if steps:
            steps[-1] = msgspec.structs.replace(steps[-1], id=image.id, tags=image.tags)
        return steps[::-1]

    async def save(self, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """Return a tar that is a docker archive and an OCI layout at once."""
        return await self._maker.save(refs)

    async def load(
        self, source: AsyncIterator[bytes], *, progress: ProgressCallback
    ) -> Sequence[str]:
        """Read what save() wrote (ours, docker's, skopeo's); returns names, or ids without one."""
        return await self._maker.load(source, progress=progress)

    async def import_(
        self,
        source: AsyncIterator[bytes],
        reference: Reference | None = None,
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str | None = None,
    ) -> str:
        """Make a one-layer image of a tar of a root file system; returns its id."""
        record = await self._maker.import_(
            source, reference, changes=changes, message=message, platform=platform
        )
        self._tell("import", record.config, reference.familiar if reference else record.config)
        return record.config

    async def commit(
        self, container: str, reference: Reference | None, request: CommitRequest
    ) -> str:
        """Make an image of a container's changes; returns its id."""
        found = self._context.records.find(container)
        if found.image == HOST:
            raise WrongStateError(
                f"container {found.name} is of the image host, which is this machine's own",
                hint="export it instead",
            )
        async with self._hold(found) if request.pause and found.running else nullcontext():
            record = await self._maker.commit(found, reference, request)
        name = reference.familiar if reference else ""
        if name:
            self._tell("tag", record.config, name)
        told = {"imageID": record.config, "imageRef": name, "comment": request.message}
        self._context.announce(found, "commit", **told)
        return record.config

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove untagged images, with filter dangling=false all that no container uses."""
        return await self._remover.prune(filters)

    def _tell(self, action: str, id: str, name: str) -> None:  # noqa: A002 - Docker's word
        self._catalog.announce(self._context.events, action, id, name)
