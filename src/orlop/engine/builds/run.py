"""RUN: a command in a container of its own, whose changes become a layer."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from orlop.engine.answers import ImageRecord
from orlop.engine.builds.layers import keys_of
from orlop.engine.containers.containers import Containers
from orlop.engine.owner import describe
from orlop.engine.requests import AttachRequest
from orlop.errors import NotFoundError
from orlop.images.build import Draft
from orlop.model.container import Container, ContainerOptions, LogOptions
from orlop.model.image import Process, digest_of, encode

_PIECE = 1 << 16

#: Takes what a command writes, and returns when there is room for more.
Hear = Callable[[bytes], Awaitable[None]]


async def run(
    containers: Containers,
    image: Draft,
    options: ContainerOptions,
    hear: Hear,
    *,
    then: Callable[[Container], Awaitable[None]],
) -> int:
    """Run a command in the image's root and return its exit status.

    If that is 0, *then* is awaited before the container is removed, as it is in any case.
    An engine that is killed leaves it to the next one: the container's owner is the engine.
    """
    options = replace(
        options,
        image="(build)",
        owner=describe(os.getpid()),
        log=LogOptions(driver="none"),
        attach_stdout=True,
        attach_stderr=True,
    )
    created = await containers.create(options, image=_record(image))
    try:
        status = await _run(containers, created.id, hear)
        if status == 0:
            await then(containers.get(created.id))
        return status
    finally:
        await asyncio.shield(_remove(containers, created.id))


async def _remove(containers: Containers, container_id: str) -> None:
    try:
        await containers.remove(container_id, force=True, volumes=True)
    except NotFoundError:
        return  # somebody else has removed it


async def _run(containers: Containers, container_id: str, hear: Hear) -> int:
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(0)
        request = AttachRequest(stdout=True, stderr=True, framed=False)
        try:
            await containers.attach(container_id, theirs, request)
        except BaseException:
            theirs.close()
            raise
        ended = asyncio.ensure_future(containers.wait(container_id, condition="next-exit"))
        try:
            await containers.start(container_id)
            loop = asyncio.get_running_loop()
            while data := await loop.sock_recv(ours, _PIECE):
                await hear(data)
            return (await ended).exit_code
        finally:
            ended.cancel()


def _record(image: Draft) -> ImageRecord:
    """Return the image as containers know one, without what only its containers are to have."""
    process = image.config.config
    plain = Process(env=process.env, user=process.user, working_dir=process.working_dir)
    config = replace(image.config, config=plain)
    return ImageRecord(
        id=digest_of(encode(config)), manifest=None, config=config, layers=tuple(keys_of(image))
    )
