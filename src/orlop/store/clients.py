"""What containerd's clients keep in namespaces, and which blobs stay because of it."""

import time
from collections.abc import Callable, Iterable, Sequence

from orlop.errors import InvalidArgumentError
from orlop.model.clients import Blob, ClientContainer, Ingest, Lease, Snapshot
from orlop.model.digest import Digest, parse_digest
from orlop.store.database import Database
from orlop.store.objects import Entry, Objects, kinds_in

CONTENT = "content"  # the type of a lease's resource
_ROOT = "containerd.io/gc.root"
SNAPSHOTS = "snapshots/"  # how the types of the other resources begin
_REFERENCE = "containerd.io/gc.ref.content"
_SNAPSHOT = "containerd.io/gc.ref.snapshot."


class ClientRecords:
    """All objects of containerd's clients, by kind."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.leases = Objects(database, "lease", Lease)
        self.blobs = Objects(database, "blob", Blob)
        self.ingests = Objects(database, "ingest", Ingest)
        self.snapshots = Objects(database, "snapshot", Snapshot)
        self.containers = Objects(database, "container", ClientContainer)

    def kinds_in(self, namespace: str) -> list[str]:
        """Return the kinds of the objects that *namespace* has."""
        return kinds_in(self._database, namespace)

    def live_blobs(self) -> set[Digest]:
        """Return the blobs that stay: leased ones, roots, and those that these refer to."""
        now_ns = time.time_ns()
        labels = {(one.namespace, one.key): one.value.labels for one in self.blobs.list_all()}
        pending = {where for where, has in labels.items() if _ROOT in has}
        for namespace, _, lease in self.leases.list_all():
            if not is_over(lease, now_ns):
                ids = (one.id for one in lease.resources if one.type == CONTENT)
                pending |= {(namespace, one) for one in ids}
        seen: set[tuple[str, str]] = set()
        while pending:
            where = pending.pop()
            seen.add(where)
            named = (v for k, v in labels.get(where, {}).items() if k.startswith(_REFERENCE))
            pending |= {(where[0], digest) for digest in named} - seen
        expected = (one.value.expected for one in self.ingests.list_all())
        return set(_digests([*(digest for _, digest in seen), *expected]))

    def live_layers(self) -> set[str]:
        """Return the layers of all snapshots."""
        return {layer for one in self.snapshots.list_all() for layer in one.value.layers}

    def unneeded_snapshots(self) -> Sequence[Entry[Snapshot]]:
        """Return the snapshots that no lease, container, image or other snapshot needs."""
        now_ns = time.time_ns()
        every = {(one.namespace, one.key): one for one in self.snapshots.list_all()}
        pending = {where for where, one in every.items() if _ROOT in one.value.labels}
        for namespace, _, lease in self.leases.list_all():
            if not is_over(lease, now_ns):
                ids = (one.id for one in lease.resources if one.type.startswith(SNAPSHOTS))
                pending |= {(namespace, one) for one in ids}
        for namespace, _, container in self.containers.list_all():
            pending.add((namespace, container.snapshot_key))
        for namespace, _, blob in self.blobs.list_all():
            named = (v for k, v in blob.labels.items() if k.startswith(_SNAPSHOT))
            pending |= {(namespace, key) for key in named}
        while pending:
            found = every.pop(where := pending.pop(), None)
            if found is not None and found.value.parent:
                pending.add((where[0], found.value.parent))
        return [*every.values()]

    def forget_gone(self, has: Callable[[Digest], bool]) -> None:
        """Forget expired leases, and what is known of blobs that are gone."""
        now_ns = time.time_ns()
        for lease in self.leases.list_all():
            if is_over(lease.value, now_ns):
                self.leases.remove(lease.namespace, lease.key)
        for blob in self.blobs.list_all():
            if not has(Digest(blob.key)):
                self.blobs.remove(blob.namespace, blob.key)


def is_over(lease: Lease, now_ns: int) -> bool:
    """Whether *lease* protects nothing any more."""
    return 0 < lease.expires_ns <= now_ns


def _digests(texts: Iterable[str]) -> Iterable[Digest]:
    """Yield those of *texts* that are digests: labels can be anything."""
    for text in texts:
        try:
            yield parse_digest(text)
        except InvalidArgumentError:
            continue
