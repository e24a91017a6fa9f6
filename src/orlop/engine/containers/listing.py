"""Which containers `ps` shows."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from orlop.engine.context import Context
from orlop.engine.filters import label_matches, refuse_unknown, truth
from orlop.engine.images.images import Images
from orlop.engine.requests import Filters
from orlop.engine.when import parse_until
from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.model.container import Container, Status

Test = Callable[[Container, Sequence[str]], bool]
_SPECIAL = frozenset({"label", "label!", "ancestor", "before", "since", "is-task", "until"})
_HEALTHS = ("starting", "healthy", "unhealthy", "none")


class Listing:
    def __init__(self, context: Context, images: Images) -> None:
        self._context = context
        self._images = images

    def list(self, filters: Filters, *, everything: bool, limit: int) -> "list[Container]":
        """Return what fits, newest first; a filter on status or exit shows the stopped too."""
        refuse_unknown(filters, _SPECIAL | _TESTS.keys())
        _check_values(filters)
        everything = everything or limit > 0 or "status" in filters or "exited" in filters
        ancestors = self._ancestors(filters.get("ancestor", ()))
        after, before = self._bounds(filters)
        found = [
            container
            for container in self._context.records.all()
            if (everything or container.running or container.status == Status.RESTARTING)
            and after < container.created_ns < before
            and (ancestors is None or not ancestors.isdisjoint(_image_names(container)))
            and fits(container, filters)
        ]
        found.sort(key=lambda container: container.created_ns, reverse=True)
        return found[:limit] if limit > 0 else found

    def _ancestors(self, refs: Sequence[str]) -> set[str] | None:
        """Return ids of the images that are meant, and of what is built on them."""
        if not refs:
            return None
        wanted: set[str] = set()
        for ref in refs:
            with suppress(NotFoundError, InvalidArgumentError):
                wanted.add(self._images.resolve(ref).id)
            wanted.add(ref)
        return wanted

    def _bounds(self, filters: Filters) -> tuple[int, float]:
        records = self._context.records
        after = max((records.find(ref).created_ns for ref in filters.get("since", ())), default=-1)
        before: float = min(
            (records.find(ref).created_ns for ref in filters.get("before", ())),
            default=float("inf"),
        )
        until = parse_until(filters)
        return after, min(before, until) if until else before


def fits(container: Container, filters: Filters) -> bool:
    """Whether the container passes all filters that need no other container."""
    if truth(filters, "is-task", default=False):
        return False
    return label_matches(container.options.labels, filters) and all(
        _TESTS[name](container, values)
        for name, values in filters.items()
        if values and name in _TESTS
    )


def _image_names(container: Container) -> set[str]:
    return {container.image, container.image_name}


def _check_values(filters: Filters) -> None:
    for status in filters.get("status", ()):
        if status not in list(Status):
            raise InvalidArgumentError(f"invalid filter 'status={status[:50]}'")
    for health in filters.get("health", ()):
        if health not in _HEALTHS:
            raise InvalidArgumentError(f"invalid filter 'health={health[:50]}'")
    for code in filters.get("exited", ()):
        if not code.lstrip("-").isdecimal():
            raise InvalidArgumentError(f"invalid filter 'exited={code[:50]}'")


def _by_name(container: Container, values: Sequence[str]) -> bool:
    """A value is a pattern, of the name with or without Docker's slash in front."""
    for value in values:
        with suppress(re.error):  # what is no pattern fits nothing
            if re.search(value, container.name) or re.search(value, f"/{container.name}"):
                return True
    return False


def _by_volume(container: Container, values: Sequence[str]) -> bool:
    places = {place for m in container.mounts for place in (m.source, m.target)}
    return any(value in places for value in values)


def _by_network(container: Container, values: Sequence[str]) -> bool:
    """A value is a network's name, or the id of one that a running container is on."""
    options = container.options
    refs = {options.network, *options.networks, *(one.network for one in container.endpoints)}
    return any(value in refs for value in values)


def _by_exit(container: Container, values: Sequence[str]) -> bool:
    ended = container.status == Status.EXITED and container.finished_ns
    return bool(ended) and str(container.exit_code) in values


def _by_health(container: Container, values: Sequence[str]) -> bool:
    return (container.health.status if container.health else "none") in values


def _by_port(container: Container, values: Sequence[str]) -> bool:
    ports = {*container.options.exposed_ports, *container.options.port_bindings}
    names = {name for port in ports for name in (port, port.partition("/")[0])}
    return any(value in names for value in values)


_TESTS: dict[str, Test] = {
    "id": lambda c, values: any(c.id.startswith(value) for value in values),
    "name": _by_name,
    "status": lambda c, values: c.status in values,
    "volume": _by_volume,
    "exited": _by_exit,
    "health": _by_health,
    "network": _by_network,
    "publish": _by_port,
    "expose": _by_port,
}
