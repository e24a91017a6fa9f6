"""Beside iptables (in both of its ways), docker's rules, firewalld's, and who flushes all."""

import select
from collections.abc import Iterator
from contextlib import closing

import pytest

from orlop.network.firewall.firewall import Firewall
from orlop.network.firewall.state import FirewallState
from orlop.network.firewall.watch import Changes, Watch
from tests.integration.firewall import lab as labs
from tests.integration.firewall.conftest import NETWORKS, TABLE, port
from tests.integration.firewall.lab import HOST, NEIGHBOUR, Lab, blocked, source_seen

TAG = TABLE.split()[1]

#: What dockerd has there with one network and one published port, as `iptables-save` tells it.
DOCKER = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""
FIREWALLD = """table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
}
"""

either_way = pytest.mark.parametrize("way", ["nft", "legacy"])


@pytest.fixture
def clean(lab: Lab) -> Iterator[None]:
    yield
    for family in ("iptables", "ip6tables"):
        lab.host.run(f"{family}-legacy -P FORWARD ACCEPT")
        lab.host.run(f"{family}-legacy -F", f"{family}-legacy -X")


def passes(lab: Lab, version: int = 4, patience_s: float = labs.PATIENCE_S) -> tuple[bool, bool]:
    """Return whether a container reaches the neighbour, and the neighbour its published port."""
    with labs.listening(lab.neighbour, "tcp", version, 99) as server:
        out = source_seen(server, lab.containers["a"], "tcp", (NEIGHBOUR[version], 99), patience_s)
    with labs.listening(lab.containers["a"], "tcp", version, 80) as server:
        into = source_seen(server, lab.neighbour, "tcp", (HOST[version], 8080), patience_s)
    return bool(out), bool(into)


def publish(lab: Lab, firewall: Firewall) -> None:
    with lab.host:
        firewall.publish([port("a", 8080), port("a", 8080, version=6)])


@either_way
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.usefixtures("clean")
def test_docker_refuses_what_is_not_its_own_and_lets_ours_pass(
    lab: Lab, firewall: Firewall, way: str, version: int
) -> None:
    tables = f"{'iptables' if version == 4 else 'ip6tables'}-{way}"
    rules = DOCKER if version == 4 else DOCKER.replace("172.17.0.2/32", "fd17::2/128")
    publish(lab, firewall)
    with lab.host:
        labs.run(f"{tables}-restore", rules)
    assert passes(lab, version, labs.SILENCE_S) == (False, False)
    with lab.host:
        before = labs.run(f"{tables} -S")
        firewall.restore()
        firewall.restore()
        firewall.add_network(NETWORKS[0])
        there = labs.run(f"{tables} -S").splitlines()
        assert there.count(f"-A DOCKER-USER -j {TAG}") == 1
        assert f"-A {TAG} -i one -j ACCEPT" in there
        assert f"-A {TAG} -o br-+ -j RETURN" in there
    assert passes(lab, version) == (True, True)
    with labs.listening(lab.containers["a"], "tcp", version, 80) as server:
        direct = (labs.address("a", version), 80)
        assert blocked(server, lab.neighbour, "tcp", direct)
        assert blocked(server, lab.containers["c"], "tcp", direct)
    with lab.host:
        firewall.apply(FirewallState())
        assert labs.run(f"{tables} -S") == before


@either_way
@pytest.mark.usefixtures("clean")
def test_a_policy_of_drop_is_passed_by_a_rule_in_forward(
    lab: Lab, firewall: Firewall, way: str
) -> None:
    publish(lab, firewall)
    with lab.host:
        labs.run(f"iptables-{way} -P FORWARD DROP")
        firewall.restore()
        assert f"-A FORWARD -j {TAG}" in labs.run(f"iptables-{way} -S").splitlines()
    assert passes(lab) == (True, True)
    with lab.host:
        labs.run(f"iptables-{way} -P FORWARD ACCEPT")
        firewall.restore()
        assert TAG not in labs.run(f"iptables-{way} -S")


@pytest.mark.usefixtures("clean")
def test_docker_that_comes_later_is_given_the_call(lab: Lab, firewall: Firewall) -> None:
    with lab.host:
        labs.run("iptables-nft -P FORWARD DROP")
        firewall.restore()
        labs.run(["iptables-nft-restore", "--noflush"], DOCKER)
        firewall.restore()
        calls = [line for line in labs.run("iptables-nft -S").splitlines() if f"-j {TAG}" in line]
        assert calls == [f"-A DOCKER-USER -j {TAG}"]


@pytest.mark.usefixtures("clean")
def test_rules_that_let_all_pass_are_not_touched(lab: Lab, firewall: Firewall) -> None:
    with lab.host:
        for way in ("nft", "legacy"):
            labs.run(f"iptables-{way} -A FORWARD -s 192.0.2.1 -j DROP")
        before = [labs.run(f"iptables-{way} -S") for way in ("nft", "legacy")]
        firewall.restore()
        assert [labs.run(f"iptables-{way} -S") for way in ("nft", "legacy")] == before
        assert firewall.obstacles() == []


@pytest.mark.parametrize("version", [4, 6])
def test_firewalld_is_passed_and_left_as_it_was(lab: Lab, firewall: Firewall, version: int) -> None:
    publish(lab, firewall)
    with lab.host:
        labs.run("nft -f -", FIREWALLD)
        before = labs.run("nft list table inet firewalld")
    assert passes(lab, version, labs.SILENCE_S) == (False, False)
    with lab.host:
        firewall.restore()
        firewall.restore()
    assert passes(lab, version) == (True, True)
    with lab.host:
        assert labs.run("nft list table inet firewalld").count(f"jump {TAG}") == 1
        firewall.apply(FirewallState())
        assert labs.run("nft list table inet firewalld") == before


def test_a_firewall_made_by_hand_is_named_and_not_touched(lab: Lab, firewall: Firewall) -> None:
    rules = "table inet mine {\nchain f { type filter hook forward priority 0; policy drop; }\n}\n"
    with lab.host:
        labs.run("nft -f -", rules)
        before = labs.run("nft list table inet mine")
        firewall.restore()
        assert labs.run("nft list table inet mine") == before
        assert firewall.obstacles() == ["inet mine f"]


def is_readable(watch: Watch) -> bool:
    return bool(select.select([watch], [], [], 0)[0])


def test_a_flush_of_all_rules_is_heard_and_put_right(lab: Lab, firewall: Firewall) -> None:
    publish(lab, firewall)
    with lab.host, closing(Watch(firewall.table, firewall.port)) as watch:
        labs.run("nft flush ruleset")
        assert is_readable(watch)
        assert watch.changes(firewall.bridges) == Changes(rules=True)
        assert not is_readable(watch)
        firewall.restore()
        assert not is_readable(watch)
    assert passes(lab) == (True, True)


@pytest.mark.parametrize(
    "command",
    [
        f"nft delete table {TABLE}",
        f"nft flush chain {TABLE} forward",
        f"nft flush map {TABLE} ports4",
        f"nft delete element {TABLE} bridges {{ one }}",
    ],
)
def test_each_part_that_others_remove_is_heard(lab: Lab, firewall: Firewall, command: str) -> None:
    publish(lab, firewall)
    with lab.host, closing(Watch(firewall.table, firewall.port)) as watch:
        labs.run(command)
        assert watch.changes(firewall.bridges) == Changes(rules=True)


def test_our_own_changes_and_other_tables_are_not_heard(lab: Lab, firewall: Firewall) -> None:
    with lab.host, closing(Watch(firewall.table, firewall.port)) as watch:
        firewall.publish([port("a", 8080)])
        firewall.withdraw([port("a", 8080)])
        firewall.remove_network("net-two")
        firewall.apply(FirewallState())
        firewall.apply(FirewallState(NETWORKS))
        assert not is_readable(watch)
        labs.run("nft add table inet other")
        labs.run("nft delete table inet other")
        assert watch.changes(firewall.bridges) == Changes()


@pytest.mark.usefixtures("clean")
def test_others_who_begin_to_refuse_or_forget_our_rule_are_heard(
    lab: Lab, firewall: Firewall
) -> None:
    publish(lab, firewall)
    with lab.host, closing(Watch(firewall.table, firewall.port)) as watch:
        for command, stdin in (
            ("iptables-nft -P FORWARD DROP", ""),
            ("iptables-nft -F FORWARD", ""),
            ("iptables-nft-restore", DOCKER),
            ("nft -f -", FIREWALLD),
            ("nft -f -", f"flush table inet firewalld\n{FIREWALLD}"),
        ):
            labs.run(command, stdin)
            assert watch.changes(firewall.bridges).rules, command
            firewall.restore()
            assert watch.changes(firewall.bridges) == Changes()
    assert passes(lab) == (True, True)


def test_a_bridge_that_is_deleted_is_heard(lab: Lab, firewall: Firewall) -> None:
    with lab.host, closing(Watch(firewall.table, firewall.port)) as watch:
        labs.run("ip link add ours type bridge")
        labs.run("ip link add other type bridge")
        watch.changes(firewall.bridges)
        labs.run("ip link del ours")
        labs.run("ip link del other")
        assert is_readable(watch)
        assert watch.changes({"ours", "one"}) == Changes(bridges=frozenset({"ours"}))


def test_too_much_to_hear_means_that_everything_changed(lab: Lab, firewall: Firewall) -> None:
    with lab.host, closing(Watch(firewall.table, firewall.port)) as watch:
        rules = "counter accept\n" * 30_000
        labs.run("nft -f -", f"table ip theirs {{\nchain any {{\n{rules}}}\n}}\n")
        assert watch.changes({"one"}) == Changes(rules=True, bridges=frozenset({"one"}))
        assert watch.changes({"one"}) == Changes()
