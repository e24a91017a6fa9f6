"""Subnets that clash with nothing, and addresses that two never have."""

import ipaddress

import pytest

from orlop.errors import (
    AlreadyExistsError,
    ExhaustedError,
    InvalidArgumentError,
    WrongStateError,
)
from orlop.model.network import Subnet
from orlop.network import ipam
from orlop.network.ipam import Addresses


def test_the_first_pool_is_docker_s() -> None:
    assert ipam.choose_ipv4([]) == "172.17.0.0/16"


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        (["172.17.0.0/16"], "172.18.0.0/16"),
        (["172.17.200.0/24", "172.18.0.1/32"], "172.19.0.0/16"),
        (["172.16.0.0/12"], "192.168.0.0/20"),
        (["172.16.0.0/12", "192.168.0.0/24", "192.168.31.0/24"], "192.168.32.0/20"),
        (["0.0.0.0/0", "fd00::/8"], "172.17.0.0/16"),
    ],
)
def test_a_subnet_overlaps_no_other(taken: list[str], chosen: str) -> None:
    assert ipam.choose_ipv4(taken) == chosen


def test_every_pool_is_given_once_and_then_no_more() -> None:
    given: list[str] = []
    for _ in range(15 + 16):
        given.append(ipam.choose_ipv4(given))
    with pytest.raises(ExhaustedError, match="non-overlapping IPv4 address pool"):
        ipam.choose_ipv4(given)
    networks = [ipaddress.ip_network(subnet) for subnet in given]
    assert not any(a.overlaps(b) for a in networks for b in networks if a is not b)


def test_ipv6_subnets_are_unique_local_and_the_site_s_own() -> None:
    first = ipam.choose_ipv6([], b"\x01\x02\x03\x04")
    second = ipam.choose_ipv6([first], b"\x01\x02\x03\x04")
    assert first == "fd01:203:400::/64"
    assert second == "fd01:203:400:1::/64"
    assert ipam.choose_ipv6([first], b"other") != second


def test_overlap_is_refused_in_docker_s_words() -> None:
    ipam.check_free("10.1.0.0/16", ["10.2.0.0/16", "fd00::/64", "0.0.0.0/0"])
    with pytest.raises(WrongStateError, match="Pool overlaps with other one"):
        ipam.check_free("10.1.0.0/16", ["10.1.2.0/24"])
    with pytest.raises(WrongStateError, match="Pool overlaps with other one"):
        ipam.check_free("fd00:0:0:1::/64", ["fd00::/48"])


@pytest.mark.parametrize(
    ("subnet", "said"),
    [
        (Subnet(subnet="10.0.0.5/24"), "it should be 10.0.0.0/24"),
        (Subnet(subnet="10.0.0.0"), "it should be 10.0.0.0/32"),
        (Subnet(subnet="10.0.0.0/33"), "invalid CIDR"),
        (Subnet(subnet="\0"), "invalid CIDR"),
        (Subnet(subnet="fd00::%eth0/64"), "invalid CIDR"),
        (Subnet(subnet="127.0.0.0/8"), "no interface has such"),
        (Subnet(subnet="239.1.0.0/16"), "no interface has such"),
        (Subnet(subnet="ff05::/64"), "no interface has such"),
        (Subnet(subnet="10.0.0.0/32"), "room for no container"),
        (Subnet(subnet="10.0.0.0/24", gateway="10.0.1.1"), "doesn't contain"),
        (Subnet(subnet="10.0.0.0/24", gateway="fd00::1"), "doesn't contain"),
        (Subnet(subnet="10.0.0.0/24", gateway="x"), "invalid gateway 'x'"),
        (Subnet(subnet="10.0.0.0/24", ip_range="10.0.1.0/25"), "doesn't contain ip-range"),
        (Subnet(subnet="10.0.0.0/24", ip_range="10.0.0.0/16"), "doesn't contain ip-range"),
        (Subnet(subnet="10.0.0.0/24", ip_range="fd00::/64"), "doesn't contain ip-range"),
        (Subnet(subnet="fd00::/64", reserved={"r": "fd01::1"}), "auxiliary address r"),
        (Subnet(subnet="fd00::/64", gateway="fd00::1%eth0"), "invalid gateway"),
    ],
)
def test_a_subnet_that_cannot_be_is_refused(subnet: Subnet, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        ipam.checked(subnet)


def test_addresses_are_spelled_one_way() -> None:
    given = Subnet(subnet="fd00:0::/64", gateway="FD00::0:1", reserved={"r": "fd00::00ff"})
    assert ipam.checked(given) == Subnet(
        subnet="fd00::/64", gateway="fd00::1", reserved={"r": "fd00::ff"}
    )


def test_the_gateway_is_the_first_that_is_free() -> None:
    subnet = Subnet(subnet="10.0.0.0/24", ip_range="10.0.0.128/25", reserved={"r": "10.0.0.1"})
    assert ipam.with_gateway(subnet).gateway == "10.0.0.2"
    assert ipam.with_gateway(Subnet(subnet="fd00::/64")).gateway == "fd00::1"


def test_the_lowest_free_address_comes_next() -> None:
    addresses = Addresses(Subnet(subnet="10.0.0.0/29", gateway="10.0.0.1"))
    assert [addresses.take() for _ in range(6)] == [f"10.0.0.{n}" for n in range(2, 7)] + [None]
    addresses.release("10.0.0.5")
    addresses.release("10.0.0.3")
    assert [addresses.take(), addresses.take(), addresses.take()] == ["10.0.0.3", "10.0.0.5", None]


def test_only_the_range_is_given_and_all_of_it() -> None:
    subnet = Subnet(subnet="10.0.0.0/24", ip_range="10.0.0.8/30", reserved={"r": "10.0.0.9"})
    addresses = Addresses(subnet)
    assert [addresses.take() for _ in range(4)] == ["10.0.0.8", "10.0.0.10", "10.0.0.11", None]
    addresses.claim("10.0.0.200")
    addresses.release("10.0.0.200")
    assert addresses.take() is None


def test_a_static_address_is_nobody_else_s() -> None:
    addresses = Addresses(Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1"))
    addresses.claim("10.0.0.2")
    assert addresses.take() == "10.0.0.3"
    for taken in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.0", "10.0.0.255", "10.1.0.1"):
        with pytest.raises(AlreadyExistsError, match="Address already in use"):
            addresses.claim(taken)
    addresses.release("10.0.0.2")
    addresses.release("10.0.0.2")
    addresses.claim("10.0.0.2")
    assert addresses.take() == "10.0.0.4"
    assert len(addresses) == 3


def test_a_static_address_comes_and_goes_a_thousand_times_and_leaves_nothing() -> None:
    addresses = Addresses(Subnet(subnet="10.0.0.0/24"))
    for _ in range(5):
        addresses.take()
    for _ in range(1000):
        addresses.release("10.0.0.2")
        addresses.claim("10.0.0.2")
    addresses.release("10.0.0.2")
    assert len(addresses._freed) == 1
    assert addresses.take() == "10.0.0.2"


def test_a_subnet_of_two_has_two_hosts() -> None:
    addresses = Addresses(Subnet(subnet="10.0.0.0/31"))
    assert [addresses.take(), addresses.take(), addresses.take()] == ["10.0.0.0", "10.0.0.1", None]


def test_a_vast_subnet_costs_no_more_than_its_addresses_in_use() -> None:
    addresses = Addresses(Subnet(subnet="fd00::/64", gateway="fd00::1"))
    assert [addresses.take() for _ in range(500)][-1] == "fd00::1f5"
    assert "fd00::ffff" in addresses
    assert "10.0.0.1" not in addresses


def test_a_mac_is_made_of_the_address_or_by_chance() -> None:
    assert ipam.mac_for("172.17.0.2/16") == "02:42:ac:11:00:02"
    assert ipam.mac_for("fd00::2/64") != ipam.mac_for("fd00::2/64")
    assert ipam.mac_for("").startswith("02:42:")
