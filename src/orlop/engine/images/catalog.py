"""The images that are here: found by name, digest or id."""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from orlop.engine.answers import ImageRecord
from orlop.engine.events import Events
from orlop.engine.images.host import HOST, host_image
from orlop.errors import CorruptError, ImageNotFoundError, InvalidArgumentError, NotFoundError
from orlop.model.digest import Digest
from orlop.model.image import ImageConfig, decode_config, decode_manifest
from orlop.model.moments import rfc3339_ns
from orlop.model.reference import Reference, parse_reference
from orlop.snapshots.interface import LayerKey
from orlop.store.content import Content
from orlop.store.metadata import ImageRecord as Stored
from orlop.store.metadata import Metadata

_MIN_ID = 4
_CACHED = 256


class Found(NamedTuple):
    """The records of one image. With *is_named*, the first has the name that was asked for."""

    records: list[Stored]
    is_named: bool


class Catalog:
    def __init__(self, content: Content, metadata: Metadata) -> None:
        self._content = content
        self._metadata = metadata
        self._configs: dict[Digest, ImageConfig] = {}
        self._sizes = {layer.key: layer.size for layer in metadata.layers.list()}
        self._by_config: dict[Digest, list[Stored]] | None = None

    def changed(self) -> None:
        """Look again: images or layers came or went."""
        self._by_config = None
        self._sizes = {layer.key: layer.size for layer in self._metadata.layers.list()}

    def all(self) -> list[ImageRecord]:
        """Return every image once, newest first; not the built-in one."""
        records = [self._describe(stored) for stored in self._grouped().values()]
        return sorted(
            (record for record in records if record), key=lambda r: r.created_ns, reverse=True
        )

    def resolve(self, ref: str | Reference) -> ImageRecord:
        """Return the image; ImageNotFoundError "No such image: …", InvalidArgumentError."""
        return host_image() if ref == HOST else self._look_up(ref)[1]

    def find(self, ref: str) -> Found:
        """Return every record of the image that *ref* means. Errors as resolve()'s.

        InvalidArgumentError for the image `host`, which has no records.
        """
        if ref == HOST:
            raise InvalidArgumentError(
                f"the image {HOST} is this machine's own: it cannot be tagged, saved or removed"
            )
        return self._look_up(ref)[0]

    def tagged(self, ref: str) -> list[Stored]:
        """Return the records of all tags of a repository; none if *ref* has a tag or is an id."""
        with suppress(InvalidArgumentError):
            wanted = parse_reference(ref, default_tag=None)
            if not (wanted.tag or wanted.digest):
                every = (one for group in self._grouped().values() for one in group)
                return [
                    one
                    for one in every
                    if not one.dangling and one.reference.tag and one.reference.name == wanted.name
                ]
        return []

    def grouped(self) -> dict[Digest, list[Stored]]:
        """Return all records by the image that they mean."""
        return dict(self._grouped())

    def announce(self, events: Events, action: str, image: str, name: str = "") -> None:
        """Publish an event about an image, with its labels while it is here; *name*: or its id."""
        labels: dict[str, str] = {}
        with suppress(NotFoundError, CorruptError):
            for stored in self._grouped().get(Digest(image), ())[:1]:
                labels = dict(self.config_of(stored).config.labels)
        attributes = {**labels, "name": name or image}
        events.publish("image", action, id=image, attributes=attributes)

    def size_of(self, key: str) -> int:
        """Return the bytes that a layer takes on disk."""
        return self._sizes.get(key, 0)

    def _grouped(self) -> dict[Digest, list[Stored]]:
        if self._by_config is None:
            grouped: dict[Digest, list[Stored]] = {}
            for stored in self._metadata.images.list():
                grouped.setdefault(stored.config, []).append(stored)
            self._by_config = grouped
        return self._by_config

    def _look_up(self, ref: str | Reference) -> tuple[Found, ImageRecord]:
        """Take *ref* for a name first, then for a digest or an id. It is parsed here, once."""
        reference = ref if isinstance(ref, Reference) else _parsed(ref)
        named = self._named(reference) if reference else None
        records = self._grouped()[named.config] if named else None
        if records is None and reference and reference.digest:
            records = self._by_digest(reference)
        if records is None and isinstance(ref, str):
            records = self._by_id(ref)
        image = self._describe(records) if records else None
        if records is None or image is None:
            name = reference.familiar if reference else str(ref)[:300]
            raise ImageNotFoundError(f"No such image: {name}")
        if named:
            records = [named, *(one for one in records if one.name != named.name)]
        return Found(records, named is not None), image

    def _named(self, reference: Reference) -> Stored | None:
        with suppress(NotFoundError):
            return self._metadata.images.get(str(reference))
        return None

    def _by_digest(self, reference: Reference) -> list[Stored] | None:
        for group in self._grouped().values():
            for stored in group:
                digests = (stored.target.digest, stored.manifest.digest)
                if reference.digest in digests and (
                    stored.dangling or stored.reference.name == reference.name
                ):
                    return group
        return None

    def _by_id(self, ref: str) -> list[Stored] | None:
        text = ref.removeprefix("sha256:")
        if len(text) < _MIN_ID or any(c not in "0123456789abcdef" for c in text):
            return None
        found = [digest for digest in self._grouped() if digest.startswith("sha256:" + text)]
        if len(found) > 1:
            raise InvalidArgumentError(f"Multiple IDs found with provided prefix: {ref[:100]}")
        return self._grouped()[found[0]] if found else None

    def _describe(self, group: list[Stored]) -> ImageRecord | None:
        """Return the image of these records; None if its documents are missing or damaged."""
        first = group[0]
        try:
            config = self.config_of(first)
        except (NotFoundError, CorruptError):
            return None
        named = [stored for stored in group if not stored.dangling]
        references = [(stored.reference, stored) for stored in named]
        return ImageRecord(
            id=first.config,
            manifest=first.manifest,
            config=config,
            layers=tuple(LayerKey(diff_id) for diff_id in config.rootfs.diff_ids),
            tags=tuple(ref.familiar for ref, _ in references if ref.tag),
            digests=_unique(f"{ref.familiar_name}@{one.target.digest}" for ref, one in references),
            created_ns=rfc3339_ns(config.created) or 0,
            tagged_ns=max((stored.created_ns for stored in group), default=0),
            size=sum(self._sizes.get(diff_id, 0) for diff_id in config.rootfs.diff_ids),
            parent=next((s.labels["parent"] for s in group if "parent" in s.labels), ""),
            comment=config.history[-1].comment if config.history else "",
        )

    def config_of(self, stored: Stored) -> ImageConfig:
        config = self._configs.get(stored.config)
        if config is None:
            manifest = decode_manifest(self._content.read(stored.manifest))
            config = decode_config(self._content.read(manifest.config))
            while len(self._configs) >= _CACHED:
                del self._configs[next(iter(self._configs))]
            self._configs[stored.config] = config
        return config


def _parsed(text: str) -> Reference | None:
    with suppress(InvalidArgumentError):
        return parse_reference(text)
    return None


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
