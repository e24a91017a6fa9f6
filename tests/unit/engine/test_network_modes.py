"""What --network means, and what goes with what."""

from typing import Any

import pytest

from orlop.engine.networks.modes import has_own_namespace, names_network, resolved
from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions
from orlop.model.network import EndpointOptions


def _options(network: str, *networks: str, **more: Any) -> ContainerOptions:
    wanted = {name: EndpointOptions(aliases=(name,)) for name in networks}
    return ContainerOptions(network=network, networks=wanted, **more)


@pytest.mark.parametrize(
    ("asked", "mode", "names"),
    [
        (_options("default"), "bridge", ["bridge"]),
        (_options("bridge"), "bridge", ["bridge"]),
        (_options("bridge", "default"), "bridge", ["bridge"]),
        (_options("web", "back", "web"), "web", ["web", "back"]),
        (_options("none"), "none", []),
        (_options("none", "none"), "none", []),
        (_options("host", "host"), "host", []),
        (_options("container:box"), "container:box", []),
        (_options("ns:/run/netns/x"), "ns:/run/netns/x", []),
        (_options("web", network_disabled=True), "none", []),
    ],
)
def test_the_networks_of_a_container_are_told_by_name(
    asked: ContainerOptions, mode: str, names: list[str]
) -> None:
    found = resolved(asked)
    assert found.network == mode
    assert list(found.networks) == names  # in the order of their interfaces
    for name in names:
        assert found.networks[name] == asked.networks.get(name, found.networks[name])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (_options("host", "web"), "host network"),
        (_options("none", "web"), "none"),
        (_options("container:box", "web"), "sharing network namespace"),
        (_options("ns:/x", "web"), "sharing network namespace"),
        (_options("web", "host"), "host network"),
        (_options("web", "container:box"), "sharing network namespace"),
    ],
)
def test_some_modes_go_with_no_network(asked: ContainerOptions, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        resolved(asked)


def test_a_mode_is_a_network_or_a_kind_of_namespace() -> None:
    assert names_network("bridge")
    assert not any(map(names_network, ("", "none", "private", "host", "container:x", "ns:/x")))
    assert all(map(has_own_namespace, ("", "none", "web")))
    assert not any(map(has_own_namespace, ("host", "container:x", "ns:/x")))
