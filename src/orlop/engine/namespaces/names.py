"""Names of images as containerd's clients give them: they name the engine's images."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.images.images import Images
from orlop.engine.namespaces.events import ClientEvents
from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    InvalidArgumentError,
    NotFoundError,
    WrongStateError,
)
from orlop.model.image import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    choose,
    decode_index,
    decode_manifest,
)
from orlop.model.namespace import check_labels
from orlop.model.platform import host_platform, preference
from orlop.model.reference import parse_reference
from orlop.store.content import Content
from orlop.store.metadata import ImageRecord


class ImageNames:
    """Every namespace has the same images. A short name means what it means to Docker."""

    def __init__(self, context: Context, images: Images, events: ClientEvents) -> None:
        self._events = events
        self._content = context.content
        self._store = context.metadata.images
        self._images = images

    def get(self, name: str) -> ImageRecord:
        """Return the image; NotFoundError if there is none."""
        try:
            return self._store.get(_canonical(name))
        except InvalidArgumentError:
            raise NotFoundError(f"no image {name[:200]}") from None

    def list(self) -> Sequence[ImageRecord]:
        """Return all that have a name."""
        return [one for one in self._store.list() if not one.dangling]

    async def create(
        self, namespace: str, name: str, target: Descriptor, labels: Mapping[str, str]
    ) -> ImageRecord:
        """Give the stored image *target* a name; AlreadyExistsError if that is taken.

        WrongStateError if documents of it are not stored.
        """
        with suppress(NotFoundError):
            raise AlreadyExistsError(f"the image {self.get(name).name} exists")
        made = await self._put(_canonical(name), target, labels, time.time_ns())
        self._events.publish(namespace, "/images/create", name=made.name, labels=made.labels)
        return made

    async def update(
        self, namespace: str, name: str, target: Descriptor | None, labels: Mapping[str, str] | None
    ) -> ImageRecord:
        """Change what the name means, or its labels; NotFoundError if there is no such name."""
        before = self.get(name)
        kept = before.labels if labels is None else labels
        if target is None or target.digest == before.target.digest:
            changed = replace(before, labels=check_labels(dict(kept)))
            await self._images.put(changed)
        else:
            changed = await self._put(before.name, target, kept, time.time_ns())
        self._events.publish(namespace, "/images/update", name=changed.name, labels=changed.labels)
        return changed

    async def remove(self, namespace: str, name: str, *, sync: bool) -> None:
        """Take the name away; NotFoundError if there is none.

        What nothing needs any more is removed, with *sync* before this returns.
        """
        found = self.get(name)
        await self._images.untag(found, sync=sync)
        self._events.publish(namespace, "/images/delete", name=found.name)

    async def _put(
        self, name: str, target: Descriptor, labels: Mapping[str, str], created_ns: int
    ) -> ImageRecord:
        manifest = _manifest(self._content, target)
        document = decode_manifest(self._content.read(manifest))
        record = ImageRecord(
            name=name,
            target=target,
            manifest=manifest,
            config=document.config.digest,
            created_ns=created_ns,
            labels=check_labels(dict(labels)),
        )
        await self._images.put(record)
        return record


def _canonical(name: str) -> str:
    return str(parse_reference(name))


def _manifest(content: Content, target: Descriptor) -> Descriptor:
    """Return the manifest for this host in *target*, or the first that is stored."""
    try:
        if target.media_type in MANIFEST_TYPES:
            _check_size(content, target)
            return target
        if target.media_type not in INDEX_TYPES:
            raise InvalidArgumentError(f"no image has the media type {target.media_type[:80]!r}")
        _check_size(content, target)
        stored = [
            one
            for one in decode_index(content.read(target)).manifests
            if one.media_type in MANIFEST_TYPES and content.has(one.digest, one.size)
        ]
    except (NotFoundError, CorruptError) as error:
        raise WrongStateError(f"the image {target.digest} is not stored: {error.args[0]}") from None
    found = choose(stored, preference(host_platform())) or next(iter(stored), None)
    if found is None:
        raise WrongStateError(f"no manifest of the index {target.digest} is stored")
    return found


def _check_size(content: Content, target: Descriptor) -> None:
    if content.size(target.digest) != target.size:
        raise InvalidArgumentError(f"the blob {target.digest} has not {target.size} bytes")
