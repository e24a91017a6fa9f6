"""Volumes: named folders that outlive containers."""

from orlop.engine.answers import Pruned, VolumeAnswer
from orlop.engine.requests import NO_FILTERS, Filters
from orlop.model.container import Volume


class Volumes:
    async def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
    ) -> VolumeAnswer:
        """Make a volume, or return the one of that name; without a name, an anonymous one."""
        raise NotImplementedError

    def list(self, filters: Filters = NO_FILTERS) -> list[VolumeAnswer]:
        raise NotImplementedError

    def get(self, name: str) -> VolumeAnswer:
        """Return the volume; NotFoundError "get NAME: no such volume"."""
        raise NotImplementedError

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it and what is in it; WrongStateError while a container has it."""
        raise NotImplementedError

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove what no container has: anonymous ones, with filter all=true named ones too."""
        raise NotImplementedError


__all__ = ["Volume", "Volumes"]
