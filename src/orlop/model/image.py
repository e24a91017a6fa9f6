"""The documents of an image: descriptors, manifests, indexes, configurations.

They are those of the OCI image specification and of Docker's schema 2, which differ only in
their media types. They are untrusted: decoding limits size and depth and raises CorruptError.
A document is never encoded again to be stored or sent, because its digest is its name: keeping
the bytes also keeps unknown fields.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from orlop.errors import CorruptError, InvalidArgumentError
from orlop.model.digest import DiffID, Digest, parse_digest
from orlop.model.platform import Platform

MAX_DOCUMENT_BYTES = 8 << 20
#: Limit of lists, objects and commas: 8 MiB of them would take 9 s and 740 MB to read.
_MAX_GROUPS = 100_000
_MAX_ITEMS = 300_000
_MAX_DEPTH = 64
_MAX_LAYERS = 1024

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

#: Set by BuildKit on manifests in an index that are not images.
REFERENCE_TYPE = "vnd.docker.reference.type"
REF_NAME = "org.opencontainers.image.ref.name"

Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
T = TypeVar("T")


class Camel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Field names on the wire are lowerCamelCase."""


class Pascal(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Field names on the wire are UpperCamelCase, as Go writes them."""


class Descriptor(Camel, frozen=True, kw_only=True):
    """A blob: its media type, digest, and size in bytes. descriptor.md."""

    media_type: str = ""
    digest: Digest
    size: Size
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    platform: Platform | None = None
    artifact_type: str = ""

    def __post_init__(self) -> None:
        parse_digest(self.digest)

    @property
    def is_attestation(self) -> bool:
        """Whether it is an attestation, such as provenance, and not an image."""
        return REFERENCE_TYPE in self.annotations or bool(
            self.platform and self.platform.os == "unknown"
        )


class Index(Camel, frozen=True, kw_only=True):
    """One image for several platforms. image-index.md; Docker's manifest list."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class Manifest(Camel, frozen=True, kw_only=True):
    """One image for one platform. manifest.md; Docker's schema 2."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]  # bottom first
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}

    @property
    def is_image(self) -> bool:
        """Whether its configuration is an image's, so that it can be run."""
        return self.config.media_type in CONFIG_TYPES


SHORTEST_CHECK_NS = 1_000_000  # Docker's minimum for the times of a check


class Healthcheck(Pascal, frozen=True, kw_only=True):
    """HEALTHCHECK of an image; times in nanoseconds, 0 for the default."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Process(Pascal, frozen=True, kw_only=True):
    """The `config` part: how to run the image. config.md and Docker's additions."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    exposed_ports: dict[str, dict[str, Any]] = {}
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    working_dir: str = ""
    volumes: dict[str, dict[str, Any]] = {}
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()
    args_escaped: bool = False


class RootFS(msgspec.Struct, frozen=True):
    type: str
    diff_ids: tuple[DiffID, ...]  # bottom first

    def __post_init__(self) -> None:
        for diff_id in self.diff_ids:
            parse_digest(diff_id)


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of an image's history; without *empty_layer* it made the next layer."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image's configuration; its digest is Docker's image id. config.md."""

    created: str = ""  # RFC 3339
    author: str = ""
    architecture: str = ""
    variant: str = ""
    os: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    config: Process = Process()
    rootfs: RootFS
    history: tuple[History, ...] = ()

    @property
    def platform(self) -> Platform:
        return Platform(self.architecture, self.os, self.variant).normalized()


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest in *data*; CorruptError if it is invalid, or also an index."""
    tree = _tree(data, "manifest")
    if "manifests" in tree or tree.get("mediaType") in INDEX_TYPES:
        raise CorruptError("the manifest is an index as well")
    manifest = _typed(tree, Manifest, "manifest")
    if len(manifest.layers) > _MAX_LAYERS:
        raise CorruptError(f"the manifest has more than {_MAX_LAYERS} layers")
    return manifest


def decode_index(data: bytes) -> Index:
    """Return the index in *data*; CorruptError if it is invalid, or also a manifest."""
    tree = _tree(data, "index")
    if "layers" in tree or "config" in tree or tree.get("mediaType") in MANIFEST_TYPES:
        raise CorruptError("the index is a manifest as well")
    return _typed(tree, Index, "index")


def decode_config(data: bytes) -> ImageConfig:
    """Return the image configuration in *data*; CorruptError if it is invalid."""
    return _typed(_tree(data, "image configuration"), ImageConfig, "image configuration")


def media_type_of(data: bytes) -> str:
    """Detect the media type of a manifest or index without one; CorruptError if it is neither."""
    tree = _tree(data, "manifest")
    said = tree.get("mediaType")
    if isinstance(said, str) and said in INDEX_TYPES | MANIFEST_TYPES:
        return said
    if "manifests" in tree:
        return OCI_INDEX
    if "layers" in tree and "config" in tree:
        return OCI_MANIFEST
    raise CorruptError("the document is neither a manifest nor an index")


def encode(value: msgspec.Struct) -> bytes:
    """Return *value* as compact JSON."""
    return msgspec.json.encode(value)


def digest_of(data: bytes) -> Digest:
    """Return the sha256 digest of *data*."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def _tree(data: bytes, what: str) -> dict[str, Any]:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise CorruptError(f"the {what} is larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    if sum(map(data.count, (b"[", b"{"))) > _MAX_GROUPS or data.count(b",") > _MAX_ITEMS:
        raise CorruptError(f"the {what} has too many parts")
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CorruptError(f"the {what} is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise CorruptError(f"the {what} is not a JSON object")
    clean = _without_nulls(tree, what, _MAX_DEPTH)
    assert isinstance(clean, dict)
    return clean


def _without_nulls(value: Any, what: str, depth: int) -> Any:
    """Remove nulls: Go writes null for an empty list or map, with the meaning of a missing one."""
    if depth == 0:
        raise CorruptError(f"the {what} is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {
            key: _without_nulls(item, what, depth - 1)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return [_without_nulls(item, what, depth - 1) for item in value]
    return value


def _typed(tree: dict[str, Any], cls: type[T], what: str) -> T:
    try:
        return msgspec.convert(tree, cls)
    except (msgspec.ValidationError, InvalidArgumentError) as error:
        raise CorruptError(f"the {what} is not valid: {error}") from error


def choose(descriptors: Iterable[Descriptor], wanted: Sequence[Platform]) -> Descriptor | None:
    """Return the image that fits the earliest of *wanted*; None if none does.

    Among equals the first wins. An image without a platform comes last.
    """
    ranks = {platform: rank for rank, platform in enumerate(wanted)}
    best: Descriptor | None = None
    best_rank = len(ranks) + 1
    for descriptor in descriptors:
        if descriptor.is_attestation:
            continue
        platform = descriptor.platform
        rank = ranks.get(platform.normalized()) if platform else len(ranks)
        if rank is not None and rank < best_rank:
            best, best_rank = descriptor, rank
    return best
