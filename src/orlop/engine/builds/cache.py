"""The cache of builds: finds what a step with the same inputs has made before."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.threads import in_thread
from orlop.images.build import Built, Draft
from orlop.images.pull import Layer
from orlop.model.digest import Digest
from orlop.model.image import Process, decode_manifest, encode
from orlop.store.builds import BuildRecord
from orlop.store.leases import Lease

#: Changes whenever the same inputs would make another layer than before.
_VERSION = "1"


class Step(NamedTuple):
    """One step, and all that its result depends on, by name."""

    place: str  # file, stage and instruction: the same when an input changes
    what: str  # the instruction, for people
    inputs: Mapping[str, str]

    @property
    def key(self) -> str:
        return digest(_VERSION, *(part for item in sorted(self.inputs.items()) for part in item))


class Made(NamedTuple):
    """What a step has made, and when."""

    layer: Layer
    created: str


class Flights:
    """The steps that are being made, so that builds at the same time make each once."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else makes this step."""
        lock, users = self._locks.setdefault(key, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._locks[key]


class Cache:
    """The cache as one build sees it; what it returns is kept by *lease*."""

    def __init__(self, context: Context, lease: Lease, flights: Flights, *, reads: bool) -> None:
        self._records = context.metadata.builds
        self._content = context.content
        self._lease = lease
        self._reads = reads
        self.flights = flights

    async def find(self, step: Step) -> Made | None:
        """Return what the same step has made before, if that is still here."""
        record = await self._find(step.key)
        if record is None or record.diff_id is None:
            return None
        return Made(Layer(record.blob, record.diff_id), record.created)

    async def put(self, step: Step, made: Made) -> None:
        """Remember what a step has made: its blob is stored."""
        now_ns = time.time_ns()
        record = BuildRecord(
            key=step.key,
            blob=made.layer.descriptor,
            diff_id=made.layer.diff_id,
            created=made.created,
            created_ns=now_ns,
            used_ns=now_ns,
            what=step.what,
            place=step.place,
            inputs=dict(step.inputs),
        )
        await in_thread(self._records.put, record)

    async def why(self, step: Step) -> str:
        """Say why the step is not in the cache: which inputs differ from the last time's."""
        if not self._reads:
            return "the build does not use the cache"
        earlier = await in_thread(self._records.at, step.place)
        if not earlier:
            return "it was not built before"
        last = earlier[0].inputs
        names = sorted(
            name
            for name in last.keys() | step.inputs.keys()
            if last.get(name) != step.inputs.get(name)
        )
        return f"changed: {', '.join(names)}" if names else "its layer was removed"

    async def find_image(self, image: Draft) -> Built | None:
        """Return the image that the same steps have made before, with its times."""
        record = await self._find(_image_key(image))
        if record is None or record.diff_id is not None:
            return None
        manifest = decode_manifest(await in_thread(self._content.read, record.blob))
        self._lease.add(manifest.config.digest)
        if not self._content.has(manifest.config.digest, manifest.config.size):
            return None
        return Built(record.blob, manifest.config)

    async def put_image(self, image: Draft, built: Built) -> None:
        """Remember what the steps of *image* have made."""
        now_ns = time.time_ns()
        record = BuildRecord(
            key=_image_key(image), blob=built.descriptor, created_ns=now_ns, used_ns=now_ns
        )
        await in_thread(self._records.put, record)

    async def _find(self, key: str) -> BuildRecord | None:
        record = await in_thread(self._records.find, key) if self._reads else None
        if record is None:
            return None
        kept = [record.blob.digest, *([Digest(record.diff_id)] if record.diff_id else [])]
        await in_thread(self._lease.add, *kept)  # before it is looked for: store/leases.py
        if not self._content.has(record.blob.digest, record.blob.size):
            await in_thread(self._records.remove, key)
            return None
        return record


def digest(*parts: str) -> str:
    """Return a digest of *parts*, in hex."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def below(image: Draft) -> str:
    """Return a digest of the files that a step begins with."""
    return digest(*image.config.rootfs.diff_ids)


def _image_key(image: Draft) -> str:
    """Return a digest of all of the image but its times."""
    config = replace(
        image.config,
        created="",
        history=tuple(replace(step, created="") for step in image.config.history),
    )
    blobs = [layer.digest for layer in image.layers]
    return digest(_VERSION, "image", str(image.is_docker), *blobs, encode(config).decode())


def settings(process: Process) -> dict[str, str]:
    """Return what a command sees of the configuration, as inputs of its step."""
    return {
        "environment": json.dumps(process.env),
        "user": process.user,
        "working directory": process.working_dir,
    }
