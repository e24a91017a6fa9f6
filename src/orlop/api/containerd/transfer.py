"""The service Transfer: images between registries, the store and archives, moved by the engine."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from orlop.api.containerd import v1
from orlop.api.containerd.headers import namespace
from orlop.api.containerd.streaming import Channel, Channels
from orlop.engine.answers import Progress, ProgressCallback
from orlop.engine.engine import Engine
from orlop.engine.requests import Credentials
from orlop.errors import InvalidArgumentError, OrlopError, UnsupportedError
from orlop.model.reference import Reference, parse_reference

_TYPES = "containerd.types.transfer."
_KINDS: dict[str, type[Message]] = {
    "OCIRegistry": v1.OCIRegistry,
    "ImageStore": v1.ImageStore,
    "ImageImportStream": v1.ImageImportStream,
    "ImageExportStream": v1.ImageExportStream,
}
#: What clients draw for a layer, by Docker's words for it.
_EVENTS = {
    "Pulling fs layer": "waiting",
    "Downloading": "downloading",
    "Extracting": "extracting",
    "Pull complete": "complete",
    "Already exists": "exists",
    "Pushing": "uploading",
    "Pushed": "complete",
}


class TransferCalls:
    """One call, for every pair of a source and a destination."""

    def __init__(self, engine: Engine, channels: Channels) -> None:
        self._transfers = engine.clients.transfers
        self._channels = channels

    async def Transfer(self, request: v1.TransferRequest) -> Empty:
        where = namespace()
        source, destination = _parsed(request.source), _parsed(request.destination)
        channel = None
        if request.options.progress_stream:
            channel = self._channels.get(request.options.progress_stream)
        try:
            await self._transfer(where, source, destination, _progress(channel))
        finally:
            if channel is not None:
                with contextlib.suppress(OrlopError):
                    await channel.close()
        return Empty()

    async def _transfer(
        self, where: str, source: Message, destination: Message, progress: ProgressCallback
    ) -> None:
        match source, destination:
            case v1.OCIRegistry(), v1.ImageStore():
                await self._pull(where, source, destination, progress)
            case v1.ImageStore(), v1.OCIRegistry():
                reference = parse_reference(destination.reference)
                credentials = await self._credentials(destination, reference)
                await self._transfers.push(
                    where, source.name, reference, credentials=credentials, progress=progress
                )
            case v1.ImageImportStream(), v1.ImageStore():
                channel = self._channels.get(source.stream)
                await self._transfers.load(
                    where, channel.data(), unpack=bool(destination.unpacks), progress=progress
                )
            case v1.ImageStore(), v1.ImageExportStream():
                names = [source.name, *(one.name for one in source.extra_references)]
                channel = self._channels.get(destination.stream)
                pieces = await self._transfers.save([name for name in names if name])
                await _sent(channel, pieces)
            case v1.ImageStore(), v1.ImageStore():
                await self._transfers.tag(where, source.name, destination.name)
            case _:
                kinds = (type(source).__name__, type(destination).__name__)
                raise UnsupportedError("no transfer from {} to {}".format(*kinds))

    async def _pull(
        self,
        where: str,
        source: v1.OCIRegistry,
        destination: v1.ImageStore,
        progress: ProgressCallback,
    ) -> None:
        reference = parse_reference(source.reference)
        if len(destination.platforms) > 1:
            raise UnsupportedError("an image is pulled for one platform at a time")
        platforms = [*destination.platforms, *(one.platform for one in destination.unpacks)]
        await self._transfers.pull(
            reference,
            credentials=await self._credentials(source, reference),
            platform=_platform(platforms[0]) if platforms else None,
            progress=progress,
        )
        await self._transfers.name(
            where,
            reference,
            destination.name,
            labels=destination.labels,
            unpack=bool(destination.unpacks),
        )

    async def _credentials(
        self, registry: v1.OCIRegistry, reference: Reference
    ) -> Credentials | None:
        """Ask the client for its credentials, if it has any."""
        if not registry.resolver.auth_stream:
            return None
        channel = self._channels.get(registry.resolver.auth_stream)
        asked = v1.AuthRequest(host=reference.domain, reference=registry.reference)
        await channel.send("AuthRequest", asked)
        answer = await channel.receive(v1.AuthResponse)
        if answer is None or not answer.secret or answer.auth_type == v1.NONE:
            return None
        if answer.auth_type == v1.HEADER:
            raise UnsupportedError("credentials cannot be given as a header")
        if answer.auth_type == v1.REFRESH:
            return Credentials(identity_token=answer.secret)
        return Credentials(username=answer.username, password=answer.secret)


def _parsed(given: AnyMessage) -> Any:
    kind = _KINDS.get(given.type_url.rpartition("/")[2].removeprefix(_TYPES))
    if kind is None:
        raise UnsupportedError(f"nothing of the type {given.type_url[:80]!r} is transferred")
    try:
        return kind.FromString(given.value)
    except DecodeError:
        raise InvalidArgumentError(f"the {kind.__name__} cannot be read") from None


def _platform(platform: v1.Platform) -> str | None:
    words = (platform.os, platform.architecture, platform.variant)
    return "/".join(word for word in words if word) or None


def _progress(channel: Channel | None) -> ProgressCallback:
    """Return what tells the client of progress, as far as it listens."""

    def tell(progress: Progress) -> None:
        if channel is None:
            return
        told = v1.TransferProgress(event=progress.status)
        if progress.id and progress.status in _EVENTS:
            told = v1.TransferProgress(
                event=_EVENTS[progress.status],
                name=f"layer-{progress.id}",
                progress=progress.current,
                total=progress.total,
            )
        channel.try_send("Progress", told)

    return tell


async def _sent(channel: Channel, pieces: AsyncIterator[bytes]) -> None:
    try:
        await channel.send_data(pieces)
    finally:
        with contextlib.suppress(OrlopError):
            await channel.close()
