"""The engine and its machine as a whole."""

from orlop.engine.answers import DiskUsage, Info, Pruned
from orlop.engine.requests import NO_FILTERS, Credentials, Filters


class System:
    def info(self) -> Info:
        raise NotImplementedError

    async def disk_usage(self) -> DiskUsage:
        raise NotImplementedError

    async def prune(self, filters: Filters = NO_FILTERS, *, volumes: bool = False) -> Pruned:
        """Remove stopped containers, dangling images, and what an interrupted pull left."""
        raise NotImplementedError

    async def login(self, credentials: Credentials) -> str:
        """Try *credentials* at their server; returns an identity token or "" on success."""
        raise NotImplementedError
