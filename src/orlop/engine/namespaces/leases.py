"""Leases that containerd's clients hold: what they name is not collected."""

import secrets
import time
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.garbage import remove_garbage
from orlop.engine.namespaces.namespaces import Namespaces
from orlop.engine.threads import in_thread
from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.model.clients import Lease, Resource
from orlop.model.digest import parse_digest
from orlop.model.moments import rfc3339_ns
from orlop.model.namespace import check_labels
from orlop.store.clients import CONTENT, SNAPSHOTS, is_over
from orlop.store.objects import Entry

_MOST_RESOURCES = 10_000  # of one lease
_LONGEST_ID = 256
_EXPIRE = "containerd.io/gc.expire"


class ClientLeases:
    """The leases of all namespaces. They survive the engine, unlike its own."""

    def __init__(self, context: Context, namespaces: Namespaces) -> None:
        self._context = context
        self._gate = context.metadata.leases
        self._store = context.metadata.clients.leases
        self._namespaces = namespaces

    def create(self, namespace: str, lease_id: str, labels: Mapping[str, str]) -> Entry[Lease]:
        """Make a lease; without an id it gets one. AlreadyExistsError if it exists."""
        lease_id = _checked(lease_id or secrets.token_hex(8))
        lease = Lease(
            created_ns=time.time_ns(),
            labels=check_labels(dict(labels)),
            expires_ns=_expiry(labels),
        )
        self._namespaces.ensure(namespace)
        self._store.add(namespace, lease_id, lease)
        return Entry(namespace, lease_id, lease)

    def get(self, namespace: str, lease_id: str) -> Lease:
        """Return the lease; NotFoundError if there is none, or it has expired."""
        lease = self._store.get(namespace, lease_id)
        if is_over(lease, time.time_ns()):
            raise NotFoundError(f"the lease {lease_id[:200]} has expired")
        return lease

    def list(self, namespace: str) -> Sequence[Entry[Lease]]:
        """Return the leases of a namespace that have not expired."""
        now_ns = time.time_ns()
        return [one for one in self._store.list(namespace) if not is_over(one.value, now_ns)]

    async def remove(self, namespace: str, lease_id: str, *, sync: bool) -> None:
        """End a lease; NotFoundError if there is none.

        With *sync*, what nothing needs any more is removed before this returns.
        """
        self._store.get(namespace, lease_id)
        self._store.remove(namespace, lease_id)
        if sync:
            await in_thread(remove_garbage, self._context)

    async def add(self, namespace: str, lease_id: str, resource: Resource) -> None:
        """Have a lease protect *resource* too; waits for a running collection."""
        if resource.type == CONTENT:
            parse_digest(resource.id)
        elif not resource.id or not resource.type.startswith((SNAPSHOTS, "ingests")):
            raise InvalidArgumentError(f"a lease holds no {resource.type[:80]!r}")
        await in_thread(self._add, namespace, lease_id, resource)

    def _add(self, namespace: str, lease_id: str, resource: Resource) -> None:
        with self._gate.closed():
            lease = self.get(namespace, lease_id)
            if resource in lease.resources:
                return
            if len(lease.resources) >= _MOST_RESOURCES:
                raise InvalidArgumentError(f"the lease {lease_id} has {_MOST_RESOURCES} resources")
            held = replace(lease, resources=(*lease.resources, resource))
            self._store.put(namespace, lease_id, held)

    async def drop(self, namespace: str, lease_id: str, resource: Resource) -> None:
        """Have a lease protect *resource* no longer; no error if it does not."""
        await in_thread(self._drop, namespace, lease_id, resource)

    def _drop(self, namespace: str, lease_id: str, resource: Resource) -> None:
        with self._gate.closed():
            lease = self.get(namespace, lease_id)
            left = tuple(one for one in lease.resources if one != resource)
            self._store.put(namespace, lease_id, replace(lease, resources=left))


def _expiry(labels: Mapping[str, str]) -> int:
    """Return when a lease with *labels* is over; 0 for never."""
    if _EXPIRE not in labels:
        return 0
    at_ns = rfc3339_ns(labels[_EXPIRE])
    if at_ns is None:
        raise InvalidArgumentError(f"the label {_EXPIRE} is not a time: {labels[_EXPIRE][:80]!r}")
    return at_ns


def _checked(lease_id: str) -> str:
    if len(lease_id) > _LONGEST_ID or not lease_id.isprintable():
        raise InvalidArgumentError(
            f"invalid lease {lease_id[:80]!r}", hint=f"at most {_LONGEST_ID} printable characters"
        )
    return lease_id
