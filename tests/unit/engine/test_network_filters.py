"""What the filters of `network ls` and `network prune` let through."""

import pytest

from orlop.engine.networks.filters import prunable, select
from orlop.errors import InvalidArgumentError
from orlop.model.network import Network

BRIDGE = Network(id="a" * 64, name="bridge", created_ns=1)
HOST = Network(id="b" * 64, name="host", driver="host", created_ns=1)
FRONT = Network(id="c1" * 32, name="front", labels={"tier": "web"}, created_ns=10)
BACK = Network(id="d2" * 32, name="back", driver="macvlan", created_ns=20_000_000_000)
ALL = (BRIDGE, HOST, FRONT, BACK)


def names(**filters: list[str]) -> list[str]:
    return [network.name for network in select(ALL, filters, in_use=lambda n: n is FRONT)]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("name", "ck", ["back"]),
        ("id", "c1c1", ["front"]),
        ("driver", "bridge", ["bridge", "front"]),
        ("label", "tier", ["front"]),
        ("label", "tier=web", ["front"]),
        ("label", "tier=db", []),
        ("type", "builtin", ["bridge", "host"]),
        ("type", "custom", ["front", "back"]),
        ("scope", "local", ["bridge", "host", "front", "back"]),
        ("scope", "swarm", []),
        ("dangling", "true", ["back"]),
        ("dangling", "0", ["front"]),
    ],
)
def test_filter_shows_what_fits(name: str, value: str, wanted: list[str]) -> None:
    assert names(**{name: [value]}) == wanted


def test_one_value_of_a_filter_is_enough_and_all_filters_count() -> None:
    assert names(name=["ck", "ront"]) == ["front", "back"]
    assert names(name=["ck", "ront"], driver=["macvlan"]) == ["back"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("foo", "1", "invalid filter 'foo'"),
        ("type", "odd", "invalid filter: 'type'='odd'"),
        ("dangling", "perhaps", "invalid filter 'dangling=perhaps'"),
    ],
)
def test_a_filter_that_is_none_is_named(name: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidArgumentError, match=sentence.replace("(", r"\(")):
        names(**{name: [value]})


def test_prune_is_about_own_networks_only() -> None:
    assert prunable(ALL, {}) == [BACK, FRONT]
    assert prunable(ALL, {"label": ["tier=web"]}) == [FRONT]
    assert prunable(ALL, {"label!": ["tier"]}) == [BACK]
    assert prunable(ALL, {"until": ["5"]}) == [FRONT]
    with pytest.raises(InvalidArgumentError, match="invalid filter 'name'"):
        prunable(ALL, {"name": ["front"]})
