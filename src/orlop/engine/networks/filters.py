"""The filters of a list of networks, and of a prune."""

from collections.abc import Callable, Iterable

from orlop.engine.filters import label_matches, refuse_unknown, truth
from orlop.engine.networks import modes
from orlop.engine.requests import Filters
from orlop.engine.when import parse_until
from orlop.errors import InvalidArgumentError
from orlop.model.network import Network

_LISTED = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNED = frozenset({"label", "label!", "until"})
_TYPES = ("builtin", "custom")


def select(
    networks: Iterable[Network], filters: Filters, *, in_use: Callable[[Network], bool]
) -> list[Network]:
    """Return the networks that pass all *filters*; InvalidArgumentError for an unknown filter."""
    refuse_unknown(filters, _LISTED)
    for kind in filters.get("type", ()):
        if kind not in _TYPES:
            raise InvalidArgumentError(f"invalid filter: 'type'='{kind[:50]}'")
    dangling = truth(filters, "dangling", default=False) if "dangling" in filters else None
    return [
        network
        for network in networks
        if _fits(network, filters)
        and (dangling is None or (_is_custom(network) and dangling != in_use(network)))
    ]


def prunable(networks: Iterable[Network], filters: Filters) -> list[Network]:
    """Return the networks that a prune with *filters* selects, by name, used or not."""
    refuse_unknown(filters, _PRUNED)
    until = parse_until(filters)
    return [
        network
        for network in sorted(networks, key=lambda network: network.name)
        if _is_custom(network)
        and (not until or network.created_ns < until)
        and label_matches(network.labels, filters)
    ]


def _fits(network: Network, filters: Filters) -> bool:
    """Whether it passes the simple filters; for each one value has to match."""
    tests = {
        "driver": lambda value: value == network.driver,
        "id": lambda value: value in network.id,
        "name": lambda value: value in network.name,
        "scope": lambda value: value == "local",
        "type": lambda value: (value == "custom") == _is_custom(network),
    }
    return label_matches(network.labels, filters) and all(
        any(map(test, filters[name])) for name, test in tests.items() if filters.get(name)
    )


def _is_custom(network: Network) -> bool:
    return network.name not in modes.PREDEFINED
