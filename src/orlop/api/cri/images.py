"""CRI's ImageService."""

import base64
import binascii
import time
from collections.abc import AsyncGenerator

from orlop.api.cri import v1
from orlop.api.cri.batches import batches
from orlop.engine.answers import ImageRecord
from orlop.engine.engine import Engine
from orlop.engine.requests import Credentials
from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.model.reference import parse_reference


class ImageService:
    """The same images as in Docker's API: the engine has one store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ListImages(self, request: v1.ListImagesRequest) -> v1.ListImagesResponse:
        return v1.ListImagesResponse(images=await self._listed(request.filter))

    async def StreamImages(
        self, request: v1.StreamImagesRequest
    ) -> AsyncGenerator[v1.StreamImagesResponse, None]:
        for batch in batches(await self._listed(request.filter)):
            yield v1.StreamImagesResponse(images=batch)

    async def ImageStatus(self, request: v1.ImageStatusRequest) -> v1.ImageStatusResponse:
        found = find_image(self._engine, _named(request.image))
        return v1.ImageStatusResponse(image=_image(found) if found else None)

    async def PullImage(self, request: v1.PullImageRequest) -> v1.PullImageResponse:
        reference = parse_reference(_named(request.image))
        found = await self._engine.images.pull(
            reference, credentials=_credentials(request.auth), progress=_unseen
        )
        return v1.PullImageResponse(image_ref=found.id)

    async def RemoveImage(self, request: v1.RemoveImageRequest) -> v1.RemoveImageResponse:
        """Remove the image with all its names; no error if it is gone."""
        found = find_image(self._engine, _named(request.image))
        if found is not None:
            await self._engine.images.remove(found.id, force=True)
        return v1.RemoveImageResponse()

    async def ImageFsInfo(self, _request: v1.ImageFsInfoRequest) -> v1.ImageFsInfoResponse:
        """Return the file system of images and writable layers, and the images' size on it."""
        told = v1.FilesystemUsage(
            timestamp=time.time_ns(),
            fs_id=v1.FilesystemIdentifier(mountpoint=str(self._engine.settings.root)),
            used_bytes=v1.UInt64Value(value=self._engine.system.layers_size()),
        )
        return v1.ImageFsInfoResponse(image_filesystems=[told], container_filesystems=[told])

    async def _listed(self, wanted: v1.ImageFilter) -> list[v1.Image]:
        if wanted.image.image:
            found = find_image(self._engine, wanted.image.image)
            return [_image(found)] if found else []
        return [_image(one.image) for one in await self._engine.images.list()]


def find_image(engine: Engine, name: str) -> ImageRecord | None:
    """Return the image of a name, digest or id; None if there is none."""
    try:
        return engine.images.resolve(name)
    except NotFoundError:
        return None


def _named(image: v1.ImageSpec) -> str:
    if not image.image:
        raise InvalidArgumentError("the request names no image")
    return image.image


def _unseen(*_: object) -> None:
    """Drop progress messages: the CRI has none."""


def _image(image: ImageRecord) -> v1.Image:
    user = image.config.config.user.partition(":")[0]
    is_number = user.isdecimal()
    return v1.Image(
        id=image.id,
        repo_tags=[_full(name) for name in image.tags],
        repo_digests=[_full(name) for name in image.digests],
        size=image.size,
        uid=v1.Int64Value(value=int(user)) if is_number else None,
        username="" if is_number else user,
        pinned=image.manifest is None,  # built in
    )


def _full(name: str) -> str:
    return str(parse_reference(name, default_tag=None))


def _credentials(auth: v1.AuthConfig) -> Credentials | None:
    username, password = auth.username, auth.password
    if auth.auth and not username:
        try:
            text = base64.b64decode(auth.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidArgumentError("auth is not USER:PASSWORD in base64") from None
        username, _, password = text.partition(":")
    found = Credentials(
        username=username,
        password=password,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
        server=auth.server_address,
    )
    return None if found == Credentials() else found
