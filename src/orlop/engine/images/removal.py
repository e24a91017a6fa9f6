"""Taking names and images away, and what stands in the way of it."""

import asyncio
from collections.abc import Callable, Sequence

from orlop.engine.answers import Deleted, ImageRecord, Pruned
from orlop.engine.context import Context
from orlop.engine.filters import refuse_unknown
from orlop.engine.garbage import remove_garbage
from orlop.engine.images.catalog import Catalog
from orlop.engine.images.filters import matcher
from orlop.engine.requests import Filters
from orlop.engine.threads import in_thread
from orlop.errors import WrongStateError
from orlop.model.container import Container
from orlop.model.digest import Digest
from orlop.store.metadata import ImageRecord as Stored
from orlop.store.metadata import dangling_name

_PRUNE_FILTERS = ("dangling", "until", "label", "label!")


class Remover:
    def __init__(self, context: Context, catalog: Catalog) -> None:
        self._context = context
        self._catalog = catalog

    async def remove(self, ref: str, *, force: bool) -> Sequence[Deleted]:
        """See Images.remove()."""
        records, is_named = self._catalog.find(ref)
        if is_named:
            going = records[:1]
        else:
            self._check_repositories(ref, records, force=force)
            going = records
        last = len(going) == len(records)
        if last:
            self._check_users(ref, records[0].config, force=force)
        removed = self._untag(going)
        if last:
            removed.append(self._delete(records[0].config))
        await in_thread(remove_garbage, self._context)
        self._catalog.changed()
        return removed

    async def untag(self, record: Stored, *, sync: bool) -> None:
        """See Images.untag()."""
        self._untag([record])
        self._catalog.changed()
        if record.config not in self._catalog.grouped():
            self._delete(record.config)
        clearing = self._context.spawn(self._clear())
        if sync:
            await asyncio.shield(clearing)

    async def _clear(self) -> None:
        await in_thread(remove_garbage, self._context)
        self._catalog.changed()

    async def prune(self, filters: Filters) -> Pruned:
        """See Images.prune()."""
        refuse_unknown(filters, _PRUNE_FILTERS)
        every = any(value in ("false", "0") for value in filters.get("dangling", ()))
        rest = {name: values for name, values in filters.items() if name != "dangling"}
        wanted = matcher(rest, self._catalog)
        removed: list[Deleted] = []
        grouped = self._catalog.grouped()
        for image in self._catalog.all():
            if self._goes(image, wanted, every=every):
                removed += self._untag(grouped[Digest(image.id)])
                removed.append(self._delete(Digest(image.id)))
        freed = await in_thread(remove_garbage, self._context, partial=True)
        self._catalog.changed()
        return Pruned(images=tuple(removed), reclaimed=freed)

    def _goes(
        self, image: ImageRecord, wanted: Callable[[ImageRecord], bool], *, every: bool
    ) -> bool:
        return (every or not image.tags) and wanted(image) and not self._users(image.id)

    def _check_repositories(self, ref: str, records: Sequence[Stored], *, force: bool) -> None:
        repositories = {one.reference.name for one in records if not one.dangling}
        if len(repositories) > 1 and not force:
            raise WrongStateError(
                f"conflict: unable to delete {ref} (must be forced) -"
                " image is referenced in multiple repositories"
            )

    def _check_users(self, ref: str, config: str, *, force: bool) -> None:
        users = self._users(config)
        running = [one for one in users if one.running]
        if running:
            raise WrongStateError(
                f"conflict: unable to delete {ref} (cannot be forced) -"
                f" image is being used by running container {running[0].id[:12]}"
            )
        if users and not force:
            raise WrongStateError(
                f"conflict: unable to delete {ref} (must be forced) -"
                f" image is being used by stopped container {users[0].id[:12]}"
            )

    def _users(self, config: str) -> list[Container]:
        return [one for one in self._context.records.all() if one.image == config]

    def _untag(self, records: Sequence[Stored]) -> list[Deleted]:
        removed: list[Deleted] = []
        for record in records:
            self._context.metadata.images.remove(record.name)
            if not record.dangling:
                removed.append(Deleted(untagged=record.reference.familiar))
                self._catalog.announce(self._context.events, "untag", record.config)
        return removed

    def _delete(self, config: Digest) -> Deleted:
        """Say that the image is gone; its layers stay while a container has them."""
        self._context.metadata.images.remove(dangling_name(config))
        self._context.events.publish("image", "delete", id=config, attributes={"name": config})
        return Deleted(deleted=config)
