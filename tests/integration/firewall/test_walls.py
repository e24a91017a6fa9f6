"""What may pass between networks, the host and its neighbours where no port is published."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from orlop.model.network import Protocol
from orlop.network.firewall.firewall import Firewall
from orlop.network.firewall.state import FirewallState, Note
from tests.integration.firewall import lab as labs
from tests.integration.firewall.conftest import ENGINE, NETWORKS, TABLE, port
from tests.integration.firewall.lab import (
    HOST,
    HOST_OTHER,
    NEIGHBOUR,
    Lab,
    Place,
    blocked,
    source_seen,
)

every_kind = pytest.mark.parametrize(
    ("version", "protocol"), [(4, "tcp"), (4, "udp"), (6, "tcp"), (6, "udp")]
)


@every_kind
def test_containers_go_out_with_the_hosts_address(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    with labs.listening(lab.neighbour, protocol, version, 99) as server:
        for who in ("a", "c"):
            seen = source_seen(server, lab.containers[who], protocol, (NEIGHBOUR[version], 99))
            assert seen in {HOST[version], HOST_OTHER[version]}


@every_kind
def test_without_masquerade_they_go_out_with_their_own(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    one, two, deep = NETWORKS
    with lab.host:
        firewall.apply(FirewallState((one._replace(masquerade=False), two, deep)))
    with labs.listening(lab.neighbour, protocol, version, 99) as server:
        target = (NEIGHBOUR[version], 99)
        seen = source_seen(server, lab.containers["a"], protocol, target)
        assert seen == labs.address("a", version)


@every_kind
@pytest.mark.parametrize("filtering", ["0", "1"], ids=["routed", "br_netfilter"])
def test_within_a_network_they_are_seen_as_themselves(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol, filtering: str
) -> None:
    for family in ("iptables", "ip6tables"):
        lab.host.sysctl(f"bridge/bridge-nf-call-{family}", filtering)
    for called, who in (("a", "b"), ("d", "e")):
        with labs.listening(lab.containers[called], protocol, version, 80) as server:
            target = (labs.address(called, version), 80)
            seen = source_seen(server, lab.containers[who], protocol, target)
            assert seen == labs.address(who, version)


@every_kind
def test_a_neighbour_does_not_reach_a_container_by_its_own_address(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    """Not even a port that is published: only by the host's address."""
    with lab.host:
        firewall.publish([port("a", 8080, protocol=protocol, version=version)])
    with labs.listening(lab.containers["a"], protocol, version, 80) as server:
        target = (labs.address("a", version), 80)
        assert blocked(server, lab.neighbour, protocol, target)
        assert source_seen(server, lab.host, protocol, target)
        assert source_seen(server, lab.containers["b"], protocol, target)


@every_kind
def test_networks_do_not_reach_each_other(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    with labs.listening(lab.containers["a"], protocol, version, 80) as server:
        for who in ("c", "d"):
            target = (labs.address("a", version), 80)
            assert blocked(server, lab.containers[who], protocol, target)


@every_kind
def test_an_internal_network_is_on_its_own(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    with lab.host:
        firewall.publish([port("a", 8080, protocol=protocol, version=version)])
        firewall.publish([port("d", 8081, protocol=protocol, version=version)])
    with labs.listening(lab.neighbour, protocol, version, 99) as server:
        target = (NEIGHBOUR[version], 99)
        assert blocked(server, lab.containers["d"], protocol, target)
    target = (HOST[version], 99)
    with labs.listening(lab.host, protocol, version, 99, target[0]) as server:
        assert blocked(server, lab.containers["d"], protocol, target)
        assert source_seen(server, lab.containers["a"], protocol, target)
    target = (labs.gateway("deep", version), 99)
    with labs.listening(lab.host, protocol, version, 99, target[0]) as server:
        assert source_seen(server, lab.containers["d"], protocol, target)
    with labs.listening(lab.containers["a"], protocol, version, 80) as server:
        target = (labs.gateway("deep", version), 8080)
        assert blocked(server, lab.containers["d"], protocol, target)
    with labs.listening(lab.containers["d"], protocol, version, 80) as server:
        assert blocked(server, lab.neighbour, protocol, (HOST[version], 8081))
        own = (labs.address("d", version), 80)
        assert blocked(server, lab.containers["a"], protocol, own)
        assert source_seen(server, lab.containers["e"], protocol, own)
        assert source_seen(server, lab.host, protocol, own)


@every_kind
@pytest.mark.parametrize("filtering", ["0", "1"], ids=["routed", "br_netfilter"])
def test_without_icc_containers_reach_each_other_by_published_ports_alone(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol, filtering: str
) -> None:
    """The bridge keeps its ports apart; here one container goes by the gateway instead."""
    for family in ("iptables", "ip6tables"):
        lab.host.sysctl(f"bridge/bridge-nf-call-{family}", filtering)
    one, two, deep = NETWORKS
    address = labs.address("a", version)
    detour = f"{address} via {labs.gateway('one', version)}"
    lab.containers["b"].run(f"ip -{version} route add {detour}")
    try:
        with lab.host:
            firewall.apply(FirewallState((one._replace(icc=False), two, deep)))
            firewall.publish([port("a", 8080, protocol=protocol, version=version)])
        with labs.listening(lab.containers["a"], protocol, version, 80) as server:
            assert blocked(server, lab.containers["b"], protocol, (address, 80))
            assert source_seen(server, lab.containers["b"], protocol, (HOST[version], 8080))
        with lab.host:
            firewall.apply(FirewallState(NETWORKS))
        with labs.listening(lab.containers["a"], protocol, version, 80) as server:
            assert source_seen(server, lab.containers["b"], protocol, (address, 80))
    finally:
        lab.containers["b"].run(f"ip -{version} route del {detour}")


@every_kind
def test_the_host_forwards_for_containers_and_not_for_its_neighbours(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol, tmp_path: Path
) -> None:
    """What was no router is none for the devices it had; those that come later are not ours."""
    with ExitStack() as undo:
        far, later = (undo.enter_context(closing(labs.Place())) for _ in range(2))
        peer = labs.join(lab.host, "uplink", far, part=5)
        undo.callback(lab.host.run, "ip link del uplink")
        with lab.host:
            _forward(lab, "0")
            firewall.apply(FirewallState(NETWORKS))
            again = Firewall(ENGINE, tmp_path)  # the next engine knows what this one did
            again.apply(FirewallState(NETWORKS))
            again.close()
        late_peer = labs.join(lab.host, "wg", later, part=6)
        undo.callback(lab.host.run, "ip link del wg")
        for address in (peer[version], late_peer[version]):
            lab.neighbour.run(f"ip -{version} route add {address} via {HOST[version]}")
            undo.callback(lab.neighbour.run, f"ip -{version} route del {address}")
        with labs.listening(far, protocol, version, 99) as server:
            assert blocked(server, lab.neighbour, protocol, (peer[version], 99))
            assert source_seen(server, lab.containers["a"], protocol, (peer[version], 99))
        with labs.listening(later, protocol, version, 99) as server:
            assert source_seen(server, lab.neighbour, protocol, (late_peer[version], 99))


def test_forwarding_is_switched_on_when_a_network_needs_it(lab: Lab, firewall: Firewall) -> None:
    one, _, deep = NETWORKS
    with lab.host:
        _forward(lab, "0")
        firewall.apply(FirewallState((deep,)))
        assert _forwards(lab) == ("0", "0")
        firewall.add_network(one._replace(subnets=one.subnets[:1]))
        assert _forwards(lab) == ("1", "0")
        firewall.add_network(one)
        assert _forwards(lab) == ("1", "1")


def test_a_host_that_learns_its_routes_from_a_router_goes_on_to(
    lab: Lab, firewall: Firewall
) -> None:
    with lab.host:
        _forward(lab, "0")
        lab.host.sysctl("ipv6/conf/eth0/accept_ra", "1")
        lab.host.sysctl("ipv6/conf/one/accept_ra", "0")
        firewall.apply(FirewallState(NETWORKS))
    assert lab.host.sysctl("ipv6/conf/eth0/accept_ra") == "2"
    assert lab.host.sysctl("ipv6/conf/one/accept_ra") == "0"
    assert lab.host.sysctl("ipv6/conf/default/accept_ra") == "1"


def test_the_table_goes_with_the_last_network(lab: Lab, firewall: Firewall, tmp_path: Path) -> None:
    lab.host.sysctl("ipv4/ip_forward", "1")
    lab.host.sysctl("ipv6/conf/all/forwarding", "1")
    with lab.host:
        other = Firewall("99999999", tmp_path / "none")
        try:
            other.apply(FirewallState(NETWORKS[:2]))
            assert "orlop-99999999" in labs.run("nft list tables")
            other.remove_network("net-one")
            other.remove_network("net-two")
            other.remove_network("net-two")
            assert labs.run("nft list tables").strip() == f"table {TABLE}"
        finally:
            other.close()


def test_a_refused_state_changes_nothing(lab: Lab, firewall: Firewall) -> None:
    bad = NETWORKS[0]._replace(id="net-bad", bridge="bad", subnets=("172.30.1.128/25",))
    with lab.host:
        before = labs.run(f"nft list table {TABLE}")
        with pytest.raises(OSError, match=r"nftables: .*[Cc]onflict"):
            firewall.apply(FirewallState((*NETWORKS, bad)))
        assert labs.run(f"nft list table {TABLE}") == before
        assert firewall.state == FirewallState(NETWORKS)


def _forward(lab: Lab, value: str) -> None:
    lab.host.sysctl("ipv4/ip_forward", value)
    lab.host.sysctl("ipv6/conf/all/forwarding", value)


def _forwards(lab: Lab) -> tuple[str, str]:
    return lab.host.sysctl("ipv4/ip_forward"), lab.host.sysctl("ipv6/conf/all/forwarding")


_METADATA = {4: "169.254.169.254", 6: "fd00:ec2::254"}


@contextmanager
def _metadata(lab: Lab, where: str, version: int) -> Iterator[tuple[Place, str]]:
    """Give where a server of metadata is to listen: a place, and an address of it.

    A cloud has it behind a router; an agent on the host has the address, or translates it.
    """
    target, family = _METADATA[version], "ip" if version == 4 else "ip6"
    if where == "translated":
        lab.host.run(
            "nft add table inet agent",
            "nft add chain inet agent pre { type nat hook prerouting priority -101 ; }",
            f"nft add rule inet agent pre {family} daddr {target} dnat {family} to {HOST[version]}",
        )
        yield lab.host, HOST[version]
        lab.host.run("nft delete table inet agent")
        return
    lab.place(where).run(f"ip addr add {target} dev lo nodad")  # else one of IPv6 is of use later
    if where == "neighbour":
        lab.host.run(f"ip -{version} route add {target} via {NEIGHBOUR[version]}")
    yield lab.place(where), target
    lab.place(where).run(f"ip addr del {target} dev lo")
    if where == "neighbour":
        lab.host.run(f"ip -{version} route del {target}")


@every_kind
@pytest.mark.parametrize("where", ["neighbour", "host", "translated"])
def test_a_clouds_metadata_is_reached_where_that_was_asked_for(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol, where: str
) -> None:
    a, b, c = (lab.containers[name] for name in "abc")
    reader = Note("readers", "one", labs.address("a", version))
    one, two, deep = NETWORKS
    target = (_METADATA[version], 80)
    with _metadata(lab, where, version) as (place, address):
        with labs.listening(place, protocol, version, 80, address) as server:
            assert blocked(server, a, protocol, target)
            with lab.host:
                firewall.note([reader])
            assert source_seen(server, a, protocol, target)
            assert blocked(server, b, protocol, target)
            with lab.host:
                firewall.restore()
            assert source_seen(server, a, protocol, target)
            with lab.host:
                firewall.forget([reader, reader])
            assert blocked(server, a, protocol, target)
            with lab.host:
                firewall.apply(FirewallState((one._replace(metadata=True), two, deep)))
            assert source_seen(server, b, protocol, target)
            assert blocked(server, c, protocol, target)
        with labs.listening(place, protocol, version, 53, address) as server:  # a name server
            assert source_seen(server, c, protocol, (target[0], 53))
