"""What a registry says a name is, without pulling it."""

from orlop.engine.answers import Distribution
from orlop.engine.images.transfer import credentials_for
from orlop.engine.requests import Credentials
from orlop.engine.threads import abroad
from orlop.errors import CorruptError
from orlop.images.registry import Registry, source_of
from orlop.model.image import (
    INDEX_TYPES,
    MAX_DOCUMENT_BYTES,
    Descriptor,
    decode_config,
    decode_index,
    decode_manifest,
    digest_of,
)
from orlop.model.platform import Platform
from orlop.model.reference import Reference


async def distribution(reference: Reference, credentials: Credentials | None) -> Distribution:
    """Ask the registry; nothing is stored. Errors as Images.pull()'s."""
    source = source_of(reference, credentials_for(credentials))

    def ask() -> Distribution:
        with Registry(source) as registry:
            descriptor, data = registry.manifest(reference.target)
            return Distribution(
                descriptor=descriptor, platforms=_platforms(registry, descriptor, data)
            )

    return await abroad(ask)


async def tags(reference: Reference, credentials: Credentials | None) -> tuple[str, ...]:
    """Return the tags that the registry has in the repository of *reference*."""
    source = source_of(reference, credentials_for(credentials))

    def ask() -> tuple[str, ...]:
        with Registry(source) as registry:
            return tuple(registry.tags())

    return await abroad(ask)


def _platforms(registry: Registry, descriptor: Descriptor, data: bytes) -> tuple[Platform, ...]:
    if descriptor.media_type in INDEX_TYPES:
        children = decode_index(data).manifests
        return tuple(c.platform for c in children if c.platform and not c.is_attestation)
    manifest = decode_manifest(data)
    if not manifest.is_image:
        return ()
    config = _blob(registry, manifest.config)
    return (decode_config(config).platform,)


def _blob(registry: Registry, descriptor: Descriptor) -> bytes:
    answer, _ = registry.open_blob(descriptor.digest)
    with answer:
        data = answer.read(MAX_DOCUMENT_BYTES)
    if digest_of(data) != descriptor.digest:
        raise CorruptError(f"the registry's {descriptor.digest} has another digest")
    return data
