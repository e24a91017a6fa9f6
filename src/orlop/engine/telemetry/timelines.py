"""The steps of containers whose timeline was requested."""

from collections.abc import Sequence

from orlop.errors import NotFoundError
from orlop.model.timeline import Step

_MOST = 200  # containers; the oldest one is dropped
_MOST_STEPS = 1000  # of one container, which may be started many times


class Timelines:
    """Kept after the containers' end, because only then they are complete."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Step]] = {}

    def keep(self, container_id: str) -> None:
        """Record the steps of the container from now on."""
        if container_id in self._kept:
            return
        while len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[container_id] = []

    def add(self, container_id: str, steps: Sequence[Step]) -> None:
        """Add steps of a container; ignored if its timeline was not requested."""
        kept = self._kept.get(container_id)
        if kept is not None and len(kept) + len(steps) <= _MOST_STEPS:
            kept += steps

    def of(self, container_id: str) -> Sequence[Step]:
        """Return the container's steps; NotFoundError if they were not requested in time."""
        try:
            return self._kept[container_id]
        except KeyError:
            raise NotFoundError(
                f"no timeline of container {container_id[:100]}",
                hint="create and start it with ?timeline=1",
            ) from None
