"""A lab for each module, whose every test begins and ends without rules."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.model.network import Protocol
from orlop.network.firewall.firewall import Firewall
from orlop.network.firewall.state import FirewallState, NetworkRules, PublishedPort
from tests.integration.firewall import lab as labs
from tests.integration.firewall.lab import Lab

ENGINE = "0123abcd"
TABLE = f"inet orlop-{ENGINE}"
NETWORKS = (
    NetworkRules("net-one", "one", labs.subnets("one")),
    NetworkRules("net-two", "two", labs.subnets("two")),
    NetworkRules("net-deep", "deep", labs.subnets("deep"), internal=True),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def firewall(lab: Lab, tmp_path: Path) -> Iterator[Firewall]:
    """A firewall with the lab's three networks, on a host that forwarded nothing before."""
    lab.host.sysctl("ipv4/ip_forward", "0")
    lab.host.sysctl("ipv6/conf/all/forwarding", "0")
    for family in ("iptables", "ip6tables"):
        lab.host.sysctl(f"bridge/bridge-nf-call-{family}", "0")
    with lab.host:
        made = Firewall(ENGINE, tmp_path)
        try:
            made.apply(FirewallState(NETWORKS))
            yield made
        finally:
            made.close()
            labs.run("nft flush ruleset")


def port(
    container: str,
    host_port: int,
    *,
    protocol: Protocol = "tcp",
    version: int = 4,
    host_ip: str = "",
    container_port: int = 80,
) -> PublishedPort:
    """A published port of one of the lab's containers; on every address if no host_ip is given."""
    return PublishedPort(
        network=f"net-{labs.CONTAINERS[container][0]}",
        protocol=protocol,
        host_ip=host_ip or labs.ANY[version],
        host_port=host_port,
        address=labs.address(container, version),
        container_port=container_port,
    )
