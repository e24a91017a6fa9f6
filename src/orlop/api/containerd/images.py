"""The service Images: names, and what they mean."""

from google.protobuf.empty_pb2 import Empty

from orlop.api.containerd import v1
from orlop.api.containerd.filters import matcher
from orlop.api.containerd.headers import namespace
from orlop.api.containerd.masks import masked_labels
from orlop.api.containerd.shapes import descriptor, moment, parse_descriptor
from orlop.engine.engine import Engine
from orlop.errors import InvalidArgumentError
from orlop.store.metadata import ImageRecord

_TARGET = "target"


class ImageCalls:
    """The engine's own images, in every namespace."""

    def __init__(self, engine: Engine) -> None:
        self._images = engine.clients.images

    async def Get(self, request: v1.GetImageRequest) -> v1.GetImageResponse:
        return v1.GetImageResponse(image=_shown(self._images.get(request.name)))

    async def List(self, request: v1.ListImagesRequest) -> v1.ListImagesResponse:
        wanted = matcher(request.filters)
        return v1.ListImagesResponse(
            images=[_shown(one) for one in self._images.list() if wanted(_fields(one))]
        )

    async def Create(self, request: v1.CreateImageRequest) -> v1.CreateImageResponse:
        asked = request.image
        target = parse_descriptor(asked.target)
        made = await self._images.create(namespace(), asked.name, target, asked.labels)
        return v1.CreateImageResponse(image=_shown(made))

    async def Update(self, request: v1.UpdateImageRequest) -> v1.UpdateImageResponse:
        """Change what the mask names, or without one the target and all labels."""
        asked, paths = request.image, list(request.update_mask.paths)
        of_labels = [path for path in paths if path != _TARGET]
        target = parse_descriptor(asked.target) if not paths or _TARGET in paths else None
        labels = None
        if of_labels or not paths:
            before = self._images.get(asked.name).labels
            labels = masked_labels(before, asked.labels, of_labels)
        changed = await self._images.update(namespace(), asked.name, target, labels)
        return v1.UpdateImageResponse(image=_shown(changed))

    async def Delete(self, request: v1.DeleteImageRequest) -> Empty:
        if not request.name:
            raise InvalidArgumentError("the call names no image")
        await self._images.remove(namespace(), request.name, sync=request.sync)
        return Empty()


def _shown(image: ImageRecord) -> v1.Image:
    return v1.Image(
        name=image.name,
        labels=image.labels,
        target=descriptor(image.target),
        created_at=moment(image.created_ns),
        updated_at=moment(image.created_ns),
    )


def _fields(image: ImageRecord) -> dict[str, object]:
    target = {"digest": image.target.digest, "mediatype": image.target.media_type}
    return {"name": image.name, "target": target, "labels": image.labels}
