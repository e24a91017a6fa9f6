"""Load images from an archive into the content store.

An archive is untrusted. Its files are stored by digest, so a name in it can lead nowhere;
documents are bounded and typed; all layers must be there, and uncompressed ones must match
the configuration.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from orlop.errors import CorruptError, InvalidArgumentError, NotFoundError
from orlop.images.archives.legacy import Chain, names_of, without_parents
from orlop.images.archives.members import FolderMembers, Members, TarMembers
from orlop.images.progress import Progress, silent
from orlop.images.pull import Keep, keep_nothing
from orlop.layers.tar import Stream
from orlop.model.digest import Digest
from orlop.model.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_LAYER_ZSTD,
    REF_NAME,
    Descriptor,
    ImageConfig,
    Manifest,
    choose,
    decode_config,
    decode_index,
    decode_manifest,
    encode,
    media_type_of,
)
from orlop.model.platform import Platform, host_platform, preference
from orlop.model.reference import parse_reference
from orlop.store.content import Content

CONTAINERD_NAME = "io.containerd.image.name"
_MAX_IMAGES = 1000
_MAX_DEPTH = 4
_MAGIC = {b"\x1f\x8b": DOCKER_LAYER_GZIP, b"\x28\xb5": OCI_LAYER_ZSTD}


class LoadedImage(NamedTuple):
    """An image that is now complete in the content store."""

    names: tuple[str, ...]  # canonical references, from the archive
    target: Descriptor
    manifest: Descriptor  # for the platform; the same as target if that is a manifest
    config: Digest


class _DockerImage(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def load_tar(
    stream: Stream,
    content: Content,
    *,
    platform: Platform | None = None,
    keep: Keep = keep_nothing,
    progress: Progress = silent,
) -> list[LoadedImage]:
    """Load the images of a tar, compressed or not: OCI archive or docker archive.

    CorruptError if it is neither, or damaged; blobs that were stored are then left to garbage
    collection. ExhaustedError.
    """
    members = TarMembers(stream, content, keep=keep, progress=progress)
    return _load(members, content, platform=platform, keep=keep)


def load_folder(
    folder: Path,
    content: Content,
    *,
    platform: Platform | None = None,
    keep: Keep = keep_nothing,
    progress: Progress = silent,
) -> list[LoadedImage]:
    """Load the images of an OCI layout in a folder. Errors as load_tar(), and NotFoundError."""
    members = FolderMembers(folder, content, keep=keep, progress=progress)
    return _load(members, content, platform=platform, keep=keep)


def _load(
    members: Members, content: Content, *, platform: Platform | None, keep: Keep
) -> list[LoadedImage]:
    index, manifest = members.document("index.json"), members.document("manifest.json")
    loading = _Loading(members, content, platform or host_platform(), keep)
    if index is not None and members.document("oci-layout") is not None:
        images = list(loading.oci(index))
    elif manifest is not None:
        images = list(loading.docker(manifest))
    elif not (images := list(loading.legacy())):
        raise CorruptError(
            "the archive holds no images: neither index.json nor manifest.json is in it",
            hint="to make an image of a root file system, use `orlop import`",
        )
    return images


class _Loading:
    def __init__(self, members: Members, content: Content, platform: Platform, keep: Keep) -> None:
        self._members = members
        self._content = content
        self._platform = platform
        self._wanted = preference(platform)
        self._keep = keep

    def oci(self, index: bytes) -> Iterator[LoadedImage]:
        """Yield the images of an OCI layout. image-layout.md."""
        entries = decode_index(index).manifests
        if len(entries) > _MAX_IMAGES:
            raise CorruptError(f"the archive has more than {_MAX_IMAGES} images")
        names = _tags(self._members.document("manifest.json"))
        for entry in entries:
            if entry.is_attestation:
                continue
            target = msgspec.structs.replace(entry, annotations={}, platform=None)
            target, manifest = self._descend(target)
            document = decode_manifest(self._content.read(manifest))
            if not document.is_image:
                continue
            self._complete(document)
            given = _names(entry) or names.get(document.config.digest, ())
            yield LoadedImage(given, target, manifest, document.config.digest)

    def docker(self, manifest: bytes) -> Iterator[LoadedImage]:
        """Yield the images of a `docker save` archive."""
        for image in _docker_images(manifest):
            config_blob = self._members.blob(image.config)
            config = decode_config(self._content.read(config_blob))
            layers = [self._members.blob(name) for name in image.layers]
            tags = tuple(str(parse_reference(tag)) for tag in image.repo_tags or ())
            yield self._made(tags, config_blob, tuple(self._typed(layers, config)))

    def legacy(self) -> Iterator[LoadedImage]:
        """Yield the images of a `docker save` archive from before 1.10."""
        parents = {image: self._chain(image, most=1).wanted for image in self._members.images()}
        names = names_of(self._members.document("repositories"))
        images = dict.fromkeys((*names, *without_parents(parents)))
        if len(images) > _MAX_IMAGES:
            raise CorruptError(f"the archive has more than {_MAX_IMAGES} images")
        for image in images:
            chain = self._chain(image)
            layers = [self._members.blob(f"{layer}/layer.tar") for layer in chain.layers]
            data = chain.configuration([layer.digest for layer in layers])
            config = Descriptor(digest=self._add(data), size=len(data))
            typed = tuple(self._typed(layers, decode_config(data)))
            if any(layer.media_type != DOCKER_LAYER for layer in typed):
                raise CorruptError("the archive has compressed layers, and no manifest.json")
            yield self._made(names.get(image, ()), config, typed)

    def _chain(self, image: str, *, most: int = 0) -> Chain:
        """Return the documents of *image* and its parents, at most *most* if not 0."""
        chain = Chain(image)
        while chain.wanted and (not most or len(chain.layers) < most):
            chain.give(self._content.read(self._members.blob(f"{chain.wanted}/json")))
        return chain

    def _made(
        self, names: tuple[str, ...], config: Descriptor, layers: tuple[Descriptor, ...]
    ) -> LoadedImage:
        """Store a manifest, and return its image."""
        document = Manifest(
            schema_version=2,
            media_type=DOCKER_MANIFEST,
            config=msgspec.structs.replace(config, media_type=DOCKER_CONFIG),
            layers=layers,
        )
        data = encode(document)
        descriptor = Descriptor(media_type=DOCKER_MANIFEST, digest=self._add(data), size=len(data))
        return LoadedImage(names, descriptor, descriptor, config.digest)

    def _descend(self, target: Descriptor) -> tuple[Descriptor, Descriptor]:
        """Store *target* and everything it refers to, down to the manifest for the platform."""
        target = self._document(target)
        at = target
        for _ in range(_MAX_DEPTH):
            if at.media_type not in INDEX_TYPES:
                return target, at
            there = [child for child in self._children(at) if self._members.bring(child)]
            chosen = choose(there, self._wanted)
            if chosen is None:
                raise NotFoundError(f"the archive has no image for {self._platform}")
            at = self._document(chosen)
        raise CorruptError("the archive nests indexes too deeply")

    def _children(self, index: Descriptor) -> Sequence[Descriptor]:
        return decode_index(self._content.read(index)).manifests

    def _document(self, descriptor: Descriptor) -> Descriptor:
        """Store a manifest or index and return it with its media type."""
        self._bring(descriptor)
        kind = media_type_of(self._content.read(descriptor))
        return msgspec.structs.replace(descriptor, media_type=descriptor.media_type or kind)

    def _complete(self, manifest: Manifest) -> None:
        self._bring(manifest.config)
        config = decode_config(self._content.read(manifest.config))
        if len(config.rootfs.diff_ids) != len(manifest.layers):
            raise CorruptError("the archive has an image whose layers do not fit its configuration")
        for layer in manifest.layers:
            self._bring(layer)

    def _bring(self, descriptor: Descriptor) -> None:
        self._keep(descriptor.digest)
        if not self._members.bring(descriptor) and not self._content.has(
            descriptor.digest, descriptor.size
        ):
            raise CorruptError(f"the archive lacks blob {descriptor.digest}")

    def _typed(self, layers: list[Descriptor], config: ImageConfig) -> Iterator[Descriptor]:
        """Give each layer its media type; an uncompressed one must match the configuration."""
        diff_ids = config.rootfs.diff_ids
        if len(diff_ids) != len(layers):
            raise CorruptError("the archive has an image whose layers do not fit its configuration")
        for layer, diff_id in zip(layers, diff_ids, strict=True):
            with self._content.open(layer.digest) as blob:
                kind = _MAGIC.get(blob.read(2), DOCKER_LAYER)
            if kind == DOCKER_LAYER and layer.digest != Digest(diff_id):
                raise CorruptError(f"the archive's layer {diff_id} is not what its name says")
            yield msgspec.structs.replace(layer, media_type=kind)

    def _add(self, data: bytes) -> Digest:
        with self._content.receiver() as receiver:
            receiver.write(data)
            self._keep(receiver.digest)
            return receiver.commit()


def _docker_images(manifest: bytes) -> list[_DockerImage]:
    try:
        images = msgspec.json.decode(manifest, type=list[_DockerImage])
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptError(f"the archive's manifest.json is not valid: {error}") from error
    if len(images) > _MAX_IMAGES:
        raise CorruptError(f"the archive has more than {_MAX_IMAGES} images")
    return images


def _tags(manifest: bytes | None) -> dict[Digest, tuple[str, ...]]:
    """Return manifest.json's names by configuration, if the configuration's path is a blob's."""
    if manifest is None:
        return {}
    return {
        Digest(f"sha256:{image.config.rpartition('/')[2]}"): tuple(
            str(parse_reference(tag)) for tag in image.repo_tags or ()
        )
        for image in _docker_images(manifest)
    }


def _names(entry: Descriptor) -> tuple[str, ...]:
    """Return the name in an index entry; a bare tag, as umoci writes, names no repository."""
    given = (entry.annotations.get(key, "") for key in (REF_NAME, CONTAINERD_NAME))
    text = next((name for name in given if "/" in name or ":" in name), "")
    if not text:
        return ()
    try:
        return (str(parse_reference(text)),)
    except InvalidArgumentError as error:
        raise CorruptError(f"the archive names an image {text[:100]!r}") from error
