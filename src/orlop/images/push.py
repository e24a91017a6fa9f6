"""From the content store to a repository: blobs, then manifests, then the name."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from orlop.errors import NotFoundError, OrlopError
from orlop.images.auth import Bytes
from orlop.images.progress import Progress, silent
from orlop.images.registry import Registry
from orlop.images.transport import Request
from orlop.images.upload import upload_blob
from orlop.model.digest import Digest
from orlop.model.image import (
    INDEX_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    decode_index,
    decode_manifest,
)
from orlop.model.reference import Reference
from orlop.store.content import Content
from orlop.store.metadata import ImageRecord

_PARALLEL = 4


def push(
    registry: Registry,
    reference: Reference,
    image: ImageRecord,
    content: Content,
    *,
    mounts: Mapping[Digest, str] | None = None,
    progress: Progress = silent,
) -> Descriptor:
    """Send *image* under the name *reference*, and return what the registry now calls it.

    An index goes whole if all of it is here, else its manifest for the platform
    that is. *mounts* says from which repository of the same registry a blob may
    be taken. Blobs go in parallel; the name is given last, so a failure leaves
    it as it was.
    """
    target = image.target if _is_whole(content, image.target) else image.manifest
    manifests = list(_manifests(content, target))
    blobs = {
        blob.digest: blob
        for _, manifest in manifests
        for blob in (*manifest.layers, manifest.config)
        if not (blob.urls and not content.has(blob.digest))  # foreign: not ours to send
    }
    sources = mounts or {}

    def send(blob: Descriptor) -> None:
        source = sources.get(blob.digest)
        upload_blob(registry, blob, content, mount_from=source, progress=progress)

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="push") as pool:
        for future in [pool.submit(send, blob) for blob in blobs.values()]:
            future.result()
    for descriptor, _ in manifests:
        if descriptor.digest != target.digest:
            _put(registry, content, descriptor, descriptor.digest)
    _put(registry, content, target, reference.tag or target.digest)
    return target


def mount_sources(
    content: Content, images: Iterable[ImageRecord], reference: Reference
) -> dict[Digest, str]:
    """Tell for blobs of *images* in which other repository of *reference*'s registry they are."""
    sources: dict[Digest, str] = {}
    for image in images:
        if image.dangling:
            continue
        other = image.reference
        if other.domain != reference.domain or other.path == reference.path:
            continue
        try:
            manifest = decode_manifest(content.read(image.manifest))
        except OrlopError:
            continue
        for blob in (*manifest.layers, manifest.config):
            sources.setdefault(blob.digest, other.path)
    return sources


def _is_whole(content: Content, target: Descriptor) -> bool:
    """Whether all that *target* leads to is here."""
    try:
        return all(
            content.has(blob.digest) or blob.urls
            for _, manifest in _manifests(content, target)
            for blob in (*manifest.layers, manifest.config)
        )
    except NotFoundError:
        return False


def _manifests(content: Content, target: Descriptor) -> Iterable[tuple[Descriptor, Manifest]]:
    data = content.read(target)
    if target.media_type not in INDEX_TYPES:
        yield target, decode_manifest(data)
        return
    for child in decode_index(data).manifests:
        yield child, decode_manifest(content.read(child))


def _put(registry: Registry, content: Content, descriptor: Descriptor, name: str) -> None:
    exchange = registry.server
    url = exchange.url(registry.path(f"manifests/{quote(name, safe=':')}"))
    default = OCI_INDEX if descriptor.media_type in INDEX_TYPES else OCI_MANIFEST
    headers = {"Content-Type": descriptor.media_type or default}
    request = Request("PUT", url, headers, Bytes(content.read(descriptor)))
    with exchange.send(request, scope=registry.scope("pull,push")) as answer:
        if answer.status not in (200, 201, 202):
            raise registry.problem(answer, exchange, registry.called(name))
