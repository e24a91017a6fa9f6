"""What names open: for how long, how much of it, and what no name of the world may."""

import pytest

from orlop.model.egress import parse
from orlop.network.dns.addresses import addresses
from orlop.network.dns.message import Query, address_record, answer
from orlop.network.egress.learned import Found, Learned, Opening
from orlop.network.egress.outlet import Outlet
from orlop.network.egress.policy import Policy

_SPECIAL = (
    *("127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "ff02::1"),
    *("10.9.9.9", "172.31.0.1", "192.168.1.1", "100.100.100.200", "192.0.0.192", "0.1.2.3"),
    *("fd00:ec2::254", "fec0::1", "::ffff:127.0.0.1", "::169.254.169.254"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::10.0.0.1", "2002:c0a8:101::1"),
)
NAME = parse("a.example:443")
OUTLET = Outlet(
    container="c",
    interface="ve0",
    bridge="br0",
    bridge_mac="02:00:00:00:00:01",
    mac="02:42:0a:01:00:02",
    addresses=("10.1.0.2", "fd01::2"),
    subnets=("10.1.0.0/24", "fd01::/64"),
    destinations=(NAME,),
)


def found(address: str, ttl_s: int = 300, *, ours: bool = False) -> Found:
    return Found(address, ttl_s, (NAME,), ours)


@pytest.mark.parametrize(("ttl_s", "seconds"), [(0, 60), (300, 300), (1 << 31, 3600)])
def test_times_to_live_have_bounds(ttl_s: int, seconds: int) -> None:
    changes = Learned().plan(OUTLET, [found("192.0.2.1", ttl_s)], 0)
    assert changes.opened == ((Opening("br0", "10.1.0.2", "192.0.2.1", "tcp", 443), seconds),)


def test_what_is_open_long_enough_is_not_opened_again() -> None:
    learned = Learned()
    learned.done(OUTLET, learned.plan(OUTLET, [found("192.0.2.1")], 0), 0)
    assert not learned.plan(OUTLET, [found("192.0.2.1", 200)], 90).opened
    assert learned.plan(OUTLET, [found("192.0.2.1")], 90).opened
    assert list(learned.left(100)) == [(Opening("br0", "10.1.0.2", "192.0.2.1", "tcp", 443), 200)]
    assert not list(learned.left(300))


def test_who_learns_too_much_loses_what_is_open_for_the_shortest_time() -> None:
    learned = Learned()
    for number in range(300):
        changes = learned.plan(OUTLET, [found(f"192.1.{number // 250}.{number % 250}")], number)
        learned.done(OUTLET, changes, number)
    known = {one.address for one in learned.of(OUTLET)}
    assert len(known) == 256
    assert "192.1.0.0" not in known
    assert "192.1.1.49" in known


def test_one_answer_does_not_open_more_than_some() -> None:
    at_once = [found(f"198.51.{number // 250}.{number % 250}") for number in range(1000)]
    assert len(Learned().plan(OUTLET, at_once, 0).opened) == 64


@pytest.mark.parametrize("address", [*_SPECIAL, "10.1.0.77", "fd01::77"])
def test_a_name_of_the_world_does_not_lead_there(address: str) -> None:
    assert not Learned().plan(OUTLET, [found(address)], 0).opened


@pytest.mark.parametrize(
    ("address", "entry", "listed"),
    [
        ("10.2.0.7", "a.example:443", "10.2.0.7:443"),
        ("fd77::7", "udp:*.example:53", "udp:[fd77::7]:53"),
        ("192.168.1.1", "a.example", "192.168.1.1"),
    ],
)
def test_a_private_address_is_named_as_it_has_to_be_listed(
    address: str, entry: str, listed: str
) -> None:
    one = Found(address, 300, (parse(entry),))
    (told,) = Learned().plan(OUTLET, [one, one], 0).withheld
    assert told == (parse(entry).name, listed)
    there = OUTLET._replace(destinations=(parse(entry), parse(listed)))
    assert not Learned().plan(there, [one], 0).withheld
    other = OUTLET._replace(destinations=(parse(entry), parse("10.2.0.7:80"), parse("fd77::7:1")))
    assert Learned().plan(other, [one], 0).withheld


@pytest.mark.parametrize("address", ["192.0.2.1", "127.0.0.1", "169.254.169.254"])
def test_of_other_addresses_nothing_is_told(address: str) -> None:
    assert not Learned().plan(OUTLET, [found(address)], 0).withheld
    assert not Learned().plan(OUTLET, [found("10.1.0.77", ours=True)], 0).withheld


def test_a_name_of_ours_leads_to_a_neighbor() -> None:
    (only,) = Learned().plan(OUTLET, [found("fd01::77", ours=True)], 0).opened
    assert only[0] == Opening("br0", "fd01::2", "fd01::77", "tcp", 443)


def test_which_names_may_be_asked_for() -> None:
    entries = [parse(text) for text in ("a.example:1", "*.example:2", "*.b.example:3")]
    policy = Policy(entries)

    def ports(*labels: bytes) -> list[int]:
        wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        return sorted(one.first_port for one in policy.destinations(wire))

    assert ports(b"a", b"example") == [1, 2]
    assert ports(b"x", b"b", b"example") == [2, 3]
    assert ports(b"b", b"example") == [2]
    assert (
        ports(b"example") == ports(b"xexample") == ports(b"a", b"example", b"org") == ports() == []
    )


def test_addresses_are_read_however_broken_the_answer_is() -> None:
    question = b"\x01a\0\0\x01\0\x01"
    query = Query(1, 0x100, b"\x01a\0", 1, 1, question, 512, None)
    records = [address_record(bytes([192, 0, 2, number]), number) for number in range(3)]
    message = answer(query, [*records, address_record(bytes(16), 9)])
    whole = [("192.0.2.0", 0), ("192.0.2.1", 1), ("192.0.2.2", 2), ("::", 9)]
    assert list(addresses(message)) == whole
    for length in range(len(message)):
        assert list(addresses(message[:length])) == whole[: len(list(addresses(message[:length])))]
    for at in range(len(message)):
        list(addresses(message[:at] + b"\xff" + message[at + 1 :]))
