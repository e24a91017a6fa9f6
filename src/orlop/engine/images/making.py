"""Images that come from files or containers: save, load, import, commit."""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import msgspec

from orlop.engine.answers import ImageRecord, Progress, ProgressCallback
from orlop.engine.containers.kind import kind_of
from orlop.engine.containers.written import Written, written
from orlop.engine.context import Context
from orlop.engine.images import archives
from orlop.engine.images.catalog import Catalog
from orlop.engine.images.transfer import leased, short
from orlop.engine.images.unpacking import Unpacker
from orlop.engine.requests import CommitRequest
from orlop.engine.streams import Outflow, sent_by_client
from orlop.engine.threads import in_thread
from orlop.images.archives.load import LoadedImage
from orlop.images.archives.save import Saved, save_tar
from orlop.images.build import Base, Built, Draft, LayerWriter, draft, store_image
from orlop.images.changes import apply_changes
from orlop.images.progress import Kind
from orlop.images.pull import Layer
from orlop.model.container import Container
from orlop.model.digest import Digest
from orlop.model.image import Descriptor, History, Process, decode_config, decode_manifest
from orlop.model.platform import parse_platform
from orlop.model.reference import Reference
from orlop.store.leases import Lease
from orlop.store.metadata import ImageRecord as Stored
from orlop.store.metadata import dangling_name


class Maker:
    def __init__(self, context: Context, catalog: Catalog, unpacker: Unpacker) -> None:
        self._context = context
        self._catalog = catalog
        self._unpacker = unpacker

    async def save(self, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """See Images.save(). Errors in *refs* are raised before the first byte."""
        saved = self._saved(refs)
        for image in {record.config: 0 for ref in refs for record, _ in self._meant(ref)}:
            self._catalog.announce(self._context.events, "save", image)
        content = self._context.content
        return Outflow().stream(lambda out: save_tar(saved, content, out))  # type: ignore[arg-type] # only write() is called

    async def load(
        self, source: AsyncIterator[bytes], *, progress: ProgressCallback
    ) -> Sequence[str]:
        """See Images.load()."""
        async with leased(self._context) as lease:
            with sent_by_client():
                loaded = await archives.load(self._context, source, lease)
                for image in loaded:
                    await self._unpack(image.manifest, progress)
                return [name for image in loaded for name in self._name(image)]

    async def import_(
        self,
        source: AsyncIterator[bytes],
        reference: Reference | None,
        *,
        changes: Sequence[str],
        message: str,
        platform: str | None,
    ) -> Stored:
        """See Images.import_()."""
        base = parse_platform(platform) if platform else None
        process = apply_changes(Process(), changes)
        step = History(created=_now(), comment=message or "Imported from -")
        async with leased(self._context) as lease:
            with sent_by_client():
                layer = await archives.import_layer(self._context, source, lease)
                image = draft(base).extended(process, step, layer)
                built = await in_thread(store_image, self._context.content, image, keep=lease.add)
                return await self._finish(built, reference, comment=step.comment)

    async def commit(
        self, container: Container, reference: Reference | None, request: CommitRequest
    ) -> Stored:
        """Make an image of what *container*, which the caller holds still, has changed."""
        base = self._base(container)
        process = apply_changes(_process_of(container, base), request.changes)
        step = History(
            created=_now(),
            author=request.author,
            created_by=" ".join((container.path, *container.args)),
            comment=request.message,
        )
        async with leased(self._context) as lease, written(self._context, container) as files:
            layer = await in_thread(self._layer_of, files, lease)
            image = draft(base).extended(process, step, layer)
            built = await in_thread(store_image, self._context.content, image, keep=lease.add)
            parent = container.image if base else ""
            return await self._finish(built, reference, comment=request.message, parent=parent)

    def base(self, image: ImageRecord) -> Draft:
        """See Images.base()."""
        assert image.manifest is not None
        manifest = decode_manifest(self._context.content.read(image.manifest))
        return draft(Base(manifest, image.config))

    async def keep(self, built: Built, names: Sequence[Reference]) -> Stored:
        """See Images.keep()."""
        for name in names[1:]:
            await self._finish(built, name, comment="")
        return await self._finish(built, names[0] if names else None, comment="")

    def _saved(self, refs: Sequence[str]) -> list[Saved]:
        """Return each image that is meant once, with the names that *refs* give it."""
        saved: dict[Digest, Saved] = {}
        for record, name in (meant for ref in refs for meant in self._meant(ref)):
            image = saved.get(record.manifest.digest, Saved(record.manifest))
            if name is not None and name not in image.names:
                image = image._replace(names=(*image.names, name))
            saved[record.manifest.digest] = image
        return list(saved.values())

    def _meant(self, ref: str) -> list[tuple[Stored, Reference | None]]:
        """Return records with their names: all tags of a repository, or one; an id has no name."""
        if tagged := self._catalog.tagged(ref):
            by_name = sorted(tagged, key=lambda record: record.name)
            return [(record, record.reference) for record in by_name]
        records, is_named = self._catalog.find(ref)
        return [(records[0], records[0].reference if is_named else None)]

    def _name(self, image: LoadedImage) -> list[str]:
        """Store the image under its names, or without one; return what users call it."""
        records = [
            Stored(
                name=name,
                target=image.target,
                manifest=image.manifest,
                config=image.config,
                created_ns=time.time_ns(),
            )
            for name in image.names or (dangling_name(image.config),)
        ]
        for record in records:
            self._context.metadata.images.put(record)  # from here on it exists
        self._catalog.changed()
        self._catalog.announce(self._context.events, "load", image.config)
        return [image.config if one.dangling else one.reference.familiar for one in records]

    async def _finish(
        self, built: Built, reference: Reference | None, *, comment: str, parent: str = ""
    ) -> Stored:
        await self._unpack(built.descriptor, lambda _: None)
        labels = {"comment": comment, "parent": parent}
        record = Stored(
            name=str(reference) if reference else dangling_name(built.config.digest),
            target=built.descriptor,
            manifest=built.descriptor,
            config=built.config.digest,
            created_ns=time.time_ns(),
            labels={name: value for name, value in labels.items() if value},
        )
        await in_thread(self._context.metadata.images.put, record)  # from here on it exists
        self._catalog.changed()
        return record

    async def _unpack(self, manifest: Descriptor, progress: ProgressCallback) -> None:
        layers = layers_of(self._context, manifest)

        def listener(digest: Digest, kind: Kind, done: int, total: int) -> None:
            if kind is not Kind.EXISTS:
                status = "Loading layer"
                progress(Progress(status=status, id=short(digest), current=done, total=total))

        await self._unpacker.unpack(layers, source=None, listener=listener)

    def _base(self, container: Container) -> Base | None:
        records = self._catalog.grouped().get(Digest(container.image))
        if records is None:
            return None
        manifest = decode_manifest(self._context.content.read(records[0].manifest))
        return Base(manifest, self._catalog.config_of(records[0]))

    def _layer_of(self, files: Written, lease: Lease) -> Layer:
        with LayerWriter(self._context.content, keep=lease.add) as writer:
            files.export_diff(writer)
            return writer.finish()


def layers_of(context: Context, manifest: Descriptor) -> list[Layer]:
    """Return the layers of a stored image, bottom first."""
    document = decode_manifest(context.content.read(manifest))
    config = decode_config(context.content.read(document.config))
    return list(map(Layer, document.layers, config.rootfs.diff_ids))


def _process_of(container: Container, base: Base | None) -> Process:
    """Return how to run what was made of *container*: the image's way, and the options' labels.

    A container started by a recipe has no command of its own to replace the image's.
    """
    process = base.config.config if base else Process()
    options = container.options
    changed: dict[str, object] = {"labels": {**process.labels, **options.labels}}
    has_own = kind_of(container).has_own_command
    if options.command is not None and has_own:
        changed["cmd"] = options.command
    if options.entrypoint is not None and has_own:
        changed["entrypoint"] = options.entrypoint
    if options.user:
        changed["user"] = options.user
    if options.working_dir:
        changed["working_dir"] = options.working_dir
    names = {entry.partition("=")[0] for entry in options.environment}
    kept = tuple(entry for entry in process.env if entry.partition("=")[0] not in names)
    changed["env"] = kept + tuple(entry for entry in options.environment if "=" in entry)
    return msgspec.structs.replace(process, **changed)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
