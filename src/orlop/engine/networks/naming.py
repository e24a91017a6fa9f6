"""The names of containers on networks, for the name service."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from orlop.engine.containers.bundle import Bundles
from orlop.engine.containers.files import Addressing
from orlop.engine.context import Context
from orlop.engine.names.names import Names, Opening
from orlop.engine.networks import links, modes
from orlop.engine.networks.attachment import Place
from orlop.model.container import Container
from orlop.model.egress import parse
from orlop.model.network import Endpoint, Network
from orlop.model.overlay import Neighbour
from orlop.network.dns import zone
from orlop.network.egress.policy import Policy

T = TypeVar("T")


class Naming:
    """Serves containers on user-defined networks; the default one has no names, as in Docker."""

    def __init__(
        self,
        context: Context,
        bundles: Bundles,
        inside: Callable[[int, Callable[[], T]], Awaitable[T]],
        opening: Opening,
    ) -> None:
        self._context = context
        self._bundles = bundles
        self._elsewhere: dict[str, dict[str, zone.View]] = {}  # by network
        self._names = Names(inside, opening=opening)  # type: ignore[arg-type] # a generic method fits a generic protocol

    async def open(self, container: Container, places: Iterable[Place], namespace: int) -> None:
        """Write its files and start its name service for its current networks."""
        places = list(places)
        view = _view(container, places)
        linked = tuple(self._linked(container, places))
        if not self._bundles.refresh(container, _addressing(view, places, linked)):
            self._names.close(container.id)
            return
        self._names.put(view)
        if not self._names.is_open(container.id):
            await self._names.open(container.id, namespace)

    def files(self, container: Container, places: Iterable[Place]) -> tuple[bool, dict[str, str]]:
        """Return whether it needs the name service, and the content of its files, by path."""
        places = list(places)
        linked = tuple(self._linked(container, places))
        addressing = _addressing(_view(container, places), places, linked)
        return self._bundles.network_files(container, addressing)

    def _linked(self, container: Container, places: Sequence[Place]) -> Iterator[str]:
        """Return lines of /etc/hosts for links on the default network; elsewhere links are names.

        WrongStateError at a start if a linked container is not running; later it may stop.
        """
        for network, _ in places:
            if network.name == modes.DEFAULT:
                for link in links.links_of(container, network.id, self._context.records):
                    yield from links.hosts_lines(link)

    def renamed(self, container: Container, places: Iterable[Place]) -> None:
        """Make it known by its new name."""
        if self._names.is_open(container.id):
            self._names.put(_view(container, places))

    def elsewhere(self, network: Network, neighbours: Iterable[Neighbour]) -> None:
        """Set the names of a shared network's containers on other hosts, replacing all."""
        known = self._elsewhere.pop(network.id, {})
        views = {view.container: view for view in _foreign(network, neighbours)}
        for key in known.keys() - views.keys():
            self._names.close(key)
        for key, view in views.items():
            if known.get(key) != view:
                self._names.put(view)
        if views:
            self._elsewhere[network.id] = views

    def close(self, container_id: str) -> None:
        """Remove it, and release its namespace; an unknown one is no error."""
        self._names.close(container_id)

    def close_all(self) -> None:
        self._names.close_all()


def _foreign(network: Network, neighbours: Iterable[Neighbour]) -> Iterator[zone.View]:
    """Yield the views of containers on other hosts, one for each shared network."""
    for each in neighbours:
        if each.name:
            place = zone.Place(
                network=network.id,
                network_name=network.name,
                addresses=each.addresses,
                aliases=each.aliases,
                internal=network.internal,
            )
            key = f"{each.container[:12]:12}@{network.id}"
            yield zone.View(container=key, name=each.name, places=(place,))


def _view(container: Container, places: Iterable[Place]) -> zone.View:
    options = container.options
    return zone.View(
        container=container.id,
        name=container.name,
        places=tuple(_place(container, place) for place in places),
        servers=options.dns,
        searches=any(option.startswith("ndots:") for option in options.dns_options),
        policy=None if options.egress is None else Policy(map(parse, options.egress)),
    )


def _place(container: Container, place: Place) -> zone.Place:
    network, endpoint = place
    wanted = container.options.networks.get(network.name)
    return zone.Place(
        network=network.id,
        network_name=network.name,
        addresses=_bare(endpoint),
        aliases=tuple(filter(None, (*endpoint.aliases, container.options.hostname))),
        links=dict(links.parse(text) for text in wanted.links) if wanted else {},
        internal=network.internal,
        named=network.name != modes.DEFAULT,
    )


def _addressing(view: zone.View, places: Iterable[Place], linked: Sequence[str]) -> Addressing:
    addresses = [address for place in view.places for address in place.addresses]
    known = [route.gateway for _, endpoint in places for route in endpoint.routes if route.gateway]
    inner = [one.gateway for network, _ in places for one in network.subnets if one.gateway]
    return Addressing(
        addresses=addresses,
        gateways=known or inner,
        linked=linked,
        named=view.policy is not None or any(place.named for place in view.places),
        ipv6=any(":" in address for address in addresses),
    )


def _bare(endpoint: Endpoint) -> tuple[str, ...]:
    return tuple(address.partition("/")[0] for address in endpoint.addresses)
