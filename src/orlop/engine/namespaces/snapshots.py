"""Snapshots as containerd's clients see them: a tree of keys, each with a parent.

A snapshot is a stack of the driver's layers. One that is written to has a writable snapshot of
the driver above them; to commit it is to make a layer of what was written. So what a client
unpacks and what the engine unpacks is the same layer, unpacked once.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.images.images import Images
from orlop.engine.images.stacking import Stacks
from orlop.engine.images.transfer import leased
from orlop.engine.namespaces.events import ClientEvents
from orlop.engine.namespaces.leases import ClientLeases
from orlop.engine.namespaces.namespaces import Namespaces
from orlop.engine.threads import in_thread
from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    InvalidArgumentError,
    NotFoundError,
    UnsupportedError,
    WrongStateError,
)
from orlop.images.build import LayerWriter
from orlop.images.job import MeasureJob, Report
from orlop.images.pull import Layer
from orlop.model.clients import Resource, Snapshot
from orlop.model.digest import DiffID, Digest, chain_id
from orlop.model.image import DOCKER_LAYER, OCI_LAYER, Descriptor
from orlop.model.mount import Mount
from orlop.model.namespace import check_labels
from orlop.snapshots.interface import LayerKey
from orlop.store.clients import SNAPSHOTS
from orlop.store.leases import Lease
from orlop.store.objects import Entry

#: What containerd calls its driver for overlay, and what we are asked for.
OVERLAYFS = "overlayfs"
_LONGEST_KEY = 1024
_LOWER, _UPPER = "lowerdir+=", "upperdir="
_UNCOMPRESSED = frozenset({OCI_LAYER, DOCKER_LAYER})


class RootFS(NamedTuple):
    """What a container's root is made of: a snapshot of the driver, above layers."""

    driver: str
    name: str
    layers: tuple[str, ...]


class ClientSnapshots:
    """The snapshots of all namespaces."""

    def __init__(
        self,
        context: Context,
        namespaces: Namespaces,
        leases: ClientLeases,
        *,
        images: Images,
        events: ClientEvents,
    ) -> None:
        self._events = events
        self._context = context
        self._namespaces = namespaces
        self._leases = leases
        self._store = context.metadata.clients.snapshots
        self._driver = context.clients_driver
        self._stacks = Stacks(context.settings, self._driver, context.workers)
        self._unpacker = images.unpacker(self._driver, self._stacks)
        self._changing = asyncio.Lock()  # applies and commits: the rest does not wait for them

    def check_driver(self, name: str) -> None:
        """Raise NotFoundError unless *name* can stand for the driver."""
        if name not in ("", OVERLAYFS, self._driver.name, self._context.snapshots.name):
            raise NotFoundError(f"no snapshotter {name[:80]}", hint=OVERLAYFS)

    def get(self, namespace: str, key: str) -> Snapshot:
        """Return the snapshot; NotFoundError if there is none."""
        return self._store.get(namespace, key)

    def list(self, namespace: str) -> Sequence[Entry[Snapshot]]:
        """Return the snapshots of a namespace."""
        return self._store.list(namespace)

    async def prepare(
        self,
        namespace: str,
        key: str,
        parent: str,
        *,
        labels: Mapping[str, str],
        kind: Literal["active", "view"],
        lease: str,
    ) -> Sequence[Mount]:
        """Make a snapshot on a committed one, or on nothing, and return its mounts.

        NotFoundError, InvalidArgumentError because of the parent; AlreadyExistsError.
        """
        _check_key(key)
        self._check_new(namespace, key)
        layers = self._parent(namespace, parent).layers if parent else ()
        now_ns = time.time_ns()
        name = secrets.token_hex(16)
        made = Snapshot(
            kind=kind,
            parent=parent,
            layers=layers,
            created_ns=now_ns,
            updated_ns=now_ns,
            labels=check_labels(dict(labels)),
            name=name,
        )
        await self._lease(namespace, lease, key)
        async with leased(self._context) as held:
            await self._make(made, held)
            mounts = await in_thread(self._mounts, made)
            self._check_new(namespace, key)  # somebody may have been quicker
            self._namespaces.ensure(namespace)
            self._store.add(namespace, key, replace(made, place=_place(mounts)))
        self._tell(namespace, "prepare", key=key, parent=parent)
        return mounts

    def mounts(self, namespace: str, key: str) -> Sequence[Mount]:
        """Return the mounts of a snapshot that is not committed."""
        return self._mounts(self._not_committed(namespace, key))

    async def remove(self, namespace: str, key: str) -> None:
        """Remove a snapshot; WrongStateError if others are based on it."""
        snapshot = self._store.get(namespace, key)
        if any(one.value.parent == key for one in self._store.list(namespace)):
            raise WrongStateError(f"snapshots are based on {key[:200]}")
        self._store.remove(namespace, key)
        if snapshot.name:
            await in_thread(self._driver.remove, snapshot.name)
        self._context.sweep_soon()
        self._tell(namespace, "remove", key=key)

    async def commit(
        self, namespace: str, name: str, key: str, *, labels: Mapping[str, str], lease: str
    ) -> None:
        """Make the snapshot *key* one that others can be based on, called *name*."""
        _check_key(name)
        async with self._changing, leased(self._context) as held:
            snapshot = self._not_committed(namespace, key)
            if snapshot.kind == "view":
                raise WrongStateError(f"{key[:200]} is a view, which cannot be committed")
            self._check_new(namespace, name)
            held.add(*map(Digest, snapshot.layers))
            layers = await self._settled(snapshot, held)
            committed = replace(
                snapshot,
                kind="committed",
                layers=layers,
                labels=check_labels({**snapshot.labels, **labels}),
                updated_ns=time.time_ns(),
                name="",
                place="",
            )
            await self._lease(namespace, lease, name)
            self._store.add(namespace, name, committed)
            self._store.remove(namespace, key)
        await in_thread(self._driver.remove, snapshot.name)
        self._context.sweep_soon()
        self._tell(namespace, "commit", key=key, name=name)

    def relabel(self, namespace: str, key: str, labels: Mapping[str, str]) -> Snapshot:
        """Replace the labels of a snapshot."""
        changed = replace(
            self._store.get(namespace, key),
            labels=check_labels(dict(labels)),
            updated_ns=time.time_ns(),
        )
        self._store.put(namespace, key, changed)
        return changed

    def usage(self, namespace: str, key: str) -> int:
        """Return the bytes that the snapshot takes on disk, without its parents. Blocking."""
        snapshot = self._store.get(namespace, key)
        if snapshot.kind != "committed":
            return self._driver.usage(snapshot.name)
        below = self._store.find(namespace, snapshot.parent)
        own = snapshot.layers[len(below.layers) if below else 0 :]
        return sum(self._driver.layer_usage(LayerKey(layer)) for layer in own)

    async def rootfs(self, namespace: str, key: str) -> RootFS:
        """Return what a container has as its root whose snapshot is *key*, ready to be mounted."""
        snapshot = self._not_committed(namespace, key)
        await self._stacks.make_ready(_keys(snapshot))
        return RootFS(self._driver.name, snapshot.name, snapshot.layers)

    async def apply(
        self, namespace: str, diff: Descriptor, mounts: Sequence[Mount]
    ) -> tuple[DiffID, int]:
        """Add a stored layer to the snapshot whose *mounts* they are.

        Returns the layer's digest and bytes without compression; 0 for bytes not counted.
        """
        async with self._changing, leased(self._context) as held:
            key, snapshot = self._of(namespace, mounts)
            held.add(diff.digest, *map(Digest, snapshot.layers))
            size = self._context.content.size(diff.digest)
            diff = replace(diff, size=size, urls=(), annotations={})
            diff_id, bytes_ = await self._measured(diff)
            layers = await self._settled(snapshot, held)
            held.add(Digest(diff_id))
            await self._unpack(Layer(diff, diff_id))
            changed = replace(snapshot, layers=(*layers, diff_id), name=secrets.token_hex(16))
            await self._make(changed, held)
            place = _place(await in_thread(self._mounts, changed))
            self._store.put(namespace, key, replace(changed, place=place))
        await in_thread(self._driver.remove, snapshot.name)
        self._context.sweep_soon()
        return diff_id, bytes_

    async def add_image(self, namespace: str, layers: Sequence[Layer]) -> str:
        """Make the snapshots of an image's layers; return the key of the last, "" without layers.

        They have the keys that clients look for: each names all layers up to it.
        """
        self._namespaces.ensure(namespace)
        key, keys = "", tuple(layer.diff_id for layer in layers)
        async with leased(self._context) as held:
            held.add(*(layer.descriptor.digest for layer in layers), *map(Digest, keys))
            await self._unpacker.unpack(layers, source=None, listener=lambda *_: None)
            for number in range(len(keys)):
                parent, key = key, chain_id(keys[: number + 1])
                now_ns = time.time_ns()
                made = Snapshot(
                    kind="committed",
                    parent=parent,
                    layers=keys[: number + 1],
                    created_ns=now_ns,
                    updated_ns=now_ns,
                )
                if self._store.find(namespace, key) is None:
                    self._store.add(namespace, key, made)
        return key

    async def diff(self, namespace: str, mounts: Sequence[Mount], lease: str) -> Layer:
        """Store what was written to the snapshot whose *mounts* they are as a layer."""
        async with leased(self._context) as held:
            _, snapshot = self._of(namespace, mounts)
            held.add(*map(Digest, snapshot.layers))
            layer = await in_thread(self._written, snapshot, held)
            if lease:
                resource = Resource(id=layer.descriptor.digest, type="content")
                await self._leases.add(namespace, lease, resource)
            return layer

    def _tell(self, namespace: str, action: str, **fields: Any) -> None:
        self._events.publish(namespace, f"/snapshot/{action}", snapshotter=OVERLAYFS, **fields)

    async def _make(self, snapshot: Snapshot, held: Lease) -> None:
        """Make the driver's snapshot, ready to be mounted."""
        held.add(*map(Digest, snapshot.layers))
        keys = _keys(snapshot)
        await self._stacks.make_ready(keys)
        await in_thread(self._driver.prepare, snapshot.name, keys)

    def _mounts(self, snapshot: Snapshot) -> Sequence[Mount]:
        readonly = snapshot.kind == "view"
        made = self._driver.mounts(snapshot.name, _keys(snapshot), readonly=readonly)
        return [*_for_clients(made, readonly=readonly)]

    async def _settled(self, snapshot: Snapshot, held: Lease) -> tuple[str, ...]:
        """Return the layers that the snapshot has with what was written to it."""
        if not await in_thread(self._is_changed, snapshot):
            return snapshot.layers
        layer = await in_thread(self._written, snapshot, held)
        held.add(Digest(layer.diff_id))
        await self._unpack(layer)
        return (*snapshot.layers, layer.diff_id)

    def _is_changed(self, snapshot: Snapshot) -> bool:
        return any(True for _ in self._driver.changes(snapshot.name, _keys(snapshot)))

    def _written(self, snapshot: Snapshot, held: Lease) -> Layer:
        with LayerWriter(self._context.content, keep=held.add) as writer:
            self._driver.export_diff(snapshot.name, _keys(snapshot), writer)
            return writer.finish()

    async def _unpack(self, layer: Layer) -> None:
        await self._unpacker.unpack([layer], source=None, listener=lambda *_: None)

    async def _measured(self, layer: Descriptor) -> tuple[DiffID, int]:
        if layer.media_type in _UNCOMPRESSED:
            return DiffID(layer.digest), layer.size
        found: list[Layer] = []

        def hear(report: Report) -> None:
            if report.layer is not None:
                found.append(report.layer)

        settings = self._context.settings
        job = MeasureJob(layer=layer, content=str(settings.content), budget=settings.layer_budget)
        size = await self._context.workers.run(job, hear)
        if not found:
            raise CorruptError(f"the layer {layer.digest} cannot be read")
        return found[0].diff_id, size

    def _of(self, namespace: str, mounts: Sequence[Mount]) -> tuple[str, Snapshot]:
        """Return the snapshot whose *mounts* they are; UnsupportedError if they are nobody's."""
        place = _place(mounts)
        for one in self._store.list(namespace) if place else ():
            if one.value.place == place and one.value.kind == "active":
                return one.key, one.value
        raise UnsupportedError("the mounts are not those of an active snapshot")

    def _not_committed(self, namespace: str, key: str) -> Snapshot:
        snapshot = self._store.get(namespace, key)
        if snapshot.kind == "committed":
            raise WrongStateError(f"the snapshot {key[:200]} is committed")
        return snapshot

    def _parent(self, namespace: str, key: str) -> Snapshot:
        parent = self._store.get(namespace, key)
        if parent.kind != "committed":
            raise InvalidArgumentError(f"the snapshot {key[:200]} is not committed")
        return parent

    def _check_new(self, namespace: str, key: str) -> None:
        if self._store.find(namespace, key) is not None:
            raise AlreadyExistsError(f"the snapshot {key[:200]} exists")

    async def _lease(self, namespace: str, lease: str, key: str) -> None:
        if lease:
            await self._leases.add(namespace, lease, Resource(id=key, type=SNAPSHOTS + OVERLAYFS))


def _check_key(key: str) -> None:
    if not key or len(key) > _LONGEST_KEY or not key.isprintable():
        raise InvalidArgumentError(
            f"invalid key {key[:80]!r}", hint=f"1 to {_LONGEST_KEY} printable characters"
        )


def _keys(snapshot: Snapshot) -> list[LayerKey]:
    return [LayerKey(layer) for layer in snapshot.layers]


def _place(mounts: Sequence[Mount]) -> str:
    """Return the folder that *mounts* write to; "" if there is none."""
    if not mounts:
        return ""
    last = mounts[-1]
    if last.type == "bind":
        return last.source
    return next((text for text in last.options if text.startswith(_UPPER)), "")


def _for_clients(mounts: Sequence[Mount], *, readonly: bool) -> Iterator[Mount]:
    """Yield *mounts* as mount(2) takes them: with the lower folders in one option."""
    for mount in mounts:
        if mount.type != "overlay":
            yield mount._replace(target="")
            continue
        lowers = [text[len(_LOWER) :] for text in mount.options if text.startswith(_LOWER)]
        others = [text for text in mount.options if not text.startswith(_LOWER)]
        lower = ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in lowers)
        more = ("ro",) if readonly else ()
        yield Mount("overlay", "overlay", "", (*more, *others, f"lowerdir={lower}"))
