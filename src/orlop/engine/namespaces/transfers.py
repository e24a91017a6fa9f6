"""Images that the engine moves for containerd's clients, which move them themselves otherwise."""

from collections.abc import AsyncIterator, Mapping, Sequence

from orlop.engine.answers import ProgressCallback
from orlop.engine.context import Context
from orlop.engine.images.images import Images
from orlop.engine.images.making import layers_of
from orlop.engine.namespaces.contents import Contents
from orlop.engine.namespaces.names import ImageNames
from orlop.engine.namespaces.snapshots import OVERLAYFS, ClientSnapshots
from orlop.engine.requests import Credentials
from orlop.errors import InvalidArgumentError
from orlop.model.reference import Reference, parse_reference
from orlop.store.metadata import ImageRecord

_SNAPSHOT = f"containerd.io/gc.ref.snapshot.{OVERLAYFS}"


class Transfers:
    """Pull, push, load and save, as in Docker's API, and the files of images as snapshots."""

    def __init__(
        self,
        context: Context,
        *,
        images: Images,
        names: ImageNames,
        contents: Contents,
        snapshots: ClientSnapshots,
    ) -> None:
        self._context = context
        self._images = images
        self._names = names
        self._contents = contents
        self._snapshots = snapshots

    async def pull(
        self,
        reference: Reference,
        *,
        credentials: Credentials | None,
        platform: str | None,
        progress: ProgressCallback,
    ) -> None:
        """Fetch an image, which has then the name *reference*."""
        await self._images.pull(
            reference, platform=platform, credentials=credentials, progress=progress
        )

    async def name(
        self,
        namespace: str,
        reference: Reference,
        name: str,
        *,
        labels: Mapping[str, str],
        unpack: bool,
    ) -> None:
        """Give what was pulled the name *name* and labels; with *unpack* make its snapshots."""
        pulled = self._names.get(str(reference))
        stored = await self._named(namespace, pulled, name or pulled.name, labels)
        if unpack:
            await self._unpack(namespace, stored)

    async def push(
        self,
        namespace: str,
        name: str,
        reference: Reference,
        *,
        credentials: Credentials | None,
        progress: ProgressCallback,
    ) -> None:
        """Send the image *name* to where *reference* says."""
        stored = self._names.get(name)
        if stored.name != str(reference):
            await self._named(namespace, stored, str(reference), stored.labels)
        await self._images.push(reference, credentials=credentials, progress=progress)

    async def load(
        self,
        namespace: str,
        source: AsyncIterator[bytes],
        *,
        unpack: bool,
        progress: ProgressCallback,
    ) -> None:
        """Store the images of an archive."""
        for name in await self._images.load(source, progress=progress):
            if unpack and not name.startswith("sha256:"):
                await self._unpack(namespace, self._names.get(name))

    async def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """Return an archive of images."""
        if not names:
            raise InvalidArgumentError("no image is named")
        familiar = [self._names.get(name).reference.familiar for name in names]
        return await self._images.save(familiar)

    async def tag(self, namespace: str, source: str, target: str) -> None:
        """Give the image *source* one more name."""
        stored = self._names.get(source)
        await self._named(namespace, stored, target, stored.labels)

    async def _named(
        self, namespace: str, image: ImageRecord, name: str, labels: Mapping[str, str]
    ) -> ImageRecord:
        """Give the image the name, which may have meant another one."""
        known = {one.name for one in self._names.list()}
        if str(parse_reference(name)) in known:
            return await self._names.update(namespace, name, image.target, labels or None)
        return await self._names.create(namespace, name, image.target, labels)

    async def _unpack(self, namespace: str, image: ImageRecord) -> None:
        layers = layers_of(self._context, image.manifest)
        top = await self._snapshots.add_image(namespace, layers)
        if top:
            before = self._contents.info(namespace, image.config)
            self._contents.relabel(namespace, image.config, {**before.labels, _SNAPSHOT: top})
