"""Whatever is lost, repeated or killed, no address has two owners."""

import ipaddress
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.engine.peers import membership as steps
from orlop.engine.peers import messages, ranges
from orlop.engine.peers.token import Token, parse
from orlop.errors import CorruptError, InvalidArgumentError
from orlop.model.network import Network, Subnet
from orlop.model.overlay import HostEndpoint, Member, Membership

SUBNET = "10.0.0.0/24"
NETWORK = Network(id="ab" * 32, name="n", subnets=(Subnet(subnet=SUBNET),))


def member(number: int) -> Member:
    return Member(id=f"{number:016x}", address=f"10.9.0.{number}", port=4789)


def config(subnet: Subnet) -> messages.Config:
    network = Network(id=NETWORK.id, name="n", subnets=(subnet,))
    return messages.Config(network=network, member=member(1))


def addresses(owned: tuple[str, ...]) -> list[str]:
    return [str(address) for text in owned for address in ipaddress.ip_network(text)]


class Host:
    """A membership, and what is on its way to others; what is sent may be lost."""

    def __init__(self, number: int, first: Membership | None) -> None:
        me = member(number)
        self.membership = (
            steps.founded(NETWORK, me)
            if first is None
            else Membership(
                network=NETWORK.id,
                secret=first.secret,
                me=me.id,
                members={me.id: me},
            )
        )

    def learn(self, *others: "Host") -> None:
        for other in others:
            self.membership = steps.merged(self.membership, other.membership.members.values())

    def give(self, to: "Host") -> None:
        part = ranges.share(self.membership.owned, SUBNET, ())
        if part is not None:
            self.membership, _ = steps.giving(self.membership, to.membership.me, part)

    def take_all(self, giver: "Host", *, confirm: bool) -> None:
        """Get what *giver* sends after each connection; perhaps it never hears that it arrived."""
        me, other = self.membership.me, giver.membership.me
        for gift in giver.membership.gifts:
            if gift.to == me:
                after = steps.accepting(self.membership, other, gift.number, gift.range)
                self.membership = after or self.membership
                if confirm:
                    giver.membership = steps.confirmed(giver.membership, me, gift.number)


@given(st.integers())
@settings(max_examples=100)
def test_no_address_is_owned_twice_whatever_is_lost(seed: int) -> None:
    choose = random.Random(seed)
    first = Host(1, None)
    hosts = [first, *(Host(number, first.membership) for number in (2, 3, 4))]
    for host in hosts:
        host.learn(*hosts)
    left: list[Host] = []
    for _ in range(60):
        here, there = choose.sample(hosts, 2)
        if choose.random() < 0.5 and there not in left and here not in left:
            here.give(there)
        elif here not in left:
            here.take_all(there, confirm=choose.random() < 0.5)
        if choose.random() < 0.03 and len(left) < 2 and here not in left:
            _leave(here, [host for host in hosts if host not in (here, *left)])
            left.append(here)
        owned = [a for host in hosts if host not in left for a in addresses(host.membership.owned)]
        assert len(owned) == len(set(owned))
    _settle(hosts, left)
    owned = [a for host in hosts if host not in left for a in addresses(host.membership.owned)]
    assert sorted(owned) == sorted(addresses((SUBNET,)))  # and none is lost


def _leave(gone: Host, others: list[Host]) -> None:
    heir = others[0]
    for part in gone.membership.owned:
        gone.membership, _ = steps.giving(gone.membership, heir.membership.me, part)
    for other in others:  # it waits for all that it gave to be taken
        other.take_all(gone, confirm=True)
    assert gone.membership.gifts == ()
    assert gone.membership.owned == ()
    word = steps.parting(gone.membership)
    for other in others:
        other.membership = steps.merged(other.membership, (word,))
        other.membership = steps.merged(other.membership, (word,))


def _settle(hosts: list[Host], left: list[Host]) -> None:
    for here in hosts:
        for there in hosts:
            if here is not there and here not in left:
                here.take_all(there, confirm=True)


def test_gift_that_comes_twice_counts_once_though_it_was_given_on() -> None:
    one, two, three = Host(1, None), Host(2, Host(1, None).membership), Host(3, None)
    one.give(two)
    two.take_all(one, confirm=False)
    had = set(addresses(two.membership.owned))
    two.give(three)
    two.take_all(one, confirm=False)
    assert len(addresses(two.membership.owned)) == len(had) // 2


@given(st.lists(st.integers(0, 255), max_size=60), st.integers(1, 8))
@settings(max_examples=200)
def test_share_is_free_and_what_is_left_is_the_rest(used: list[int], rounds: int) -> None:
    taken = [f"10.0.0.{number}" for number in used]
    owned: tuple[str, ...] = (SUBNET,)
    for _ in range(rounds):
        part = ranges.share(owned, SUBNET, taken)
        if part is None:
            return
        assert not set(addresses((part,))) & set(taken)
        left = ranges.without(owned, part)
        assert sorted(addresses(left) + addresses((part,))) == sorted(addresses(owned))
        owned = left


def test_largest_free_half_is_given() -> None:
    assert ranges.share((SUBNET,), SUBNET, ["10.0.0.1"]) == "10.0.0.128/25"
    assert ranges.share((SUBNET,), SUBNET, ["10.0.0.1", "10.0.0.200"]) == "10.0.0.128/26"
    assert ranges.share(("fd00::/64",), "fd00::/64", ["fd00::1"]) == "fd00::8000:0:0:0/65"
    assert ranges.share(("10.0.0.8/32",), SUBNET, ()) is None
    assert ranges.share((), SUBNET, ()) is None


def test_one_address_is_given_only_by_who_has_it_free() -> None:
    assert ranges.single((SUBNET,), "10.0.0.7", ()) == "10.0.0.7/32"
    assert ranges.single((SUBNET,), "10.0.0.7", ("10.0.0.7",)) is None
    assert ranges.single((SUBNET,), "10.0.1.7", ()) is None


def test_first_free_is_never_the_networks_own() -> None:
    assert ranges.first_free((SUBNET,), SUBNET, ()) == "10.0.0.1"
    assert ranges.first_free(("10.0.0.255/32",), SUBNET, ()) is None


def test_who_has_left_never_comes_back() -> None:
    one = steps.founded(NETWORK, member(1))
    one = steps.merged(one, (member(2),))
    assert [each.id for each in steps.others(one)] == [member(2).id]
    word = Member(id=member(2).id, address="10.9.0.2", port=4789, version=2, left=True)
    one = steps.merged(one, (word,))
    one = steps.merged(one, (member(2), Member(id=word.id, address="::1", port=1, version=9)))
    assert list(steps.others(one)) == []


def test_members_are_limited() -> None:
    one = steps.founded(NETWORK, member(1))
    one = steps.merged(one, [member(number) for number in range(2, 1000)])
    assert len(one.members) == messages.MOST_MEMBERS


def test_token_says_all_and_damage_is_seen() -> None:
    token = Token("ab" * 32, bytes(32), (("10.0.0.1", 4789), ("fd00::1", 4790)))
    text = str(token)
    assert parse(f" {text}\n") == token
    for broken in ("", text[:-1], text + "A", text.replace("orlop", "orlup"), text[:30] + "\0"):
        with pytest.raises(InvalidArgumentError, match="no join token"):
            parse(broken)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_rubbish_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(CorruptError):
        messages.decode(data)


@pytest.mark.parametrize(
    "message",
    [
        messages.Change(put=(HostEndpoint(mac="01:00:5e:00:00:01"),)),
        messages.Change(put=(HostEndpoint(mac="00:00:00:00:00:00"),)),
        messages.Change(put=(HostEndpoint(mac="x; drop"),)),
        messages.Change(put=(HostEndpoint(mac="02:00:00:00:00:01", addresses=("x",)),)),
        messages.Change(put=(HostEndpoint(mac="02:00:00:00:00:01", name="n" * 999),)),
        messages.Members(members=(Member(id="x", address="10.0.0.1", port=1),)),
        messages.Members(members=(Member(id="ab" * 8, address="10.0.0.1; }", port=1),)),
        messages.Members(members=(member(1),) * 999),
        messages.Gift(number=1, range="everything"),
        messages.Members(members=(Member(id="ab" * 8, address="fe80::1%x }; }\nflush", port=1),)),
        messages.Change(put=(HostEndpoint(mac="02:00:00:00:00:01", addresses=("fd00::1%x",)),)),
        messages.Ask(number=1, subnet="fd00::%x/64"),
        messages.Ask(number=1, subnet="fd00::/64", address="fd00::1%x"),
        messages.Gift(number=1, range="fd00::%x/64"),
        config(Subnet(subnet="fd00::%x };/64")),
        config(Subnet(subnet="fd00::/64", ip_range="fd00::%x };/65")),
        config(Subnet(subnet="fd00::/64", gateway="fd00::1%x };")),
        config(Subnet(subnet="fd00::/64", reserved={"x": "y"})),
    ],
)
def test_value_that_cannot_be_is_refused(message: messages.AnyMessage) -> None:
    with pytest.raises(CorruptError):
        messages.decode(messages.encode(message))


def test_long_state_comes_in_parts() -> None:
    endpoints = [
        HostEndpoint(mac=f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", name="n" * 200)
        for n in range(2000)
    ]
    parts = list(messages.parts(endpoints))
    assert len(parts) > 1
    assert [part.has_more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert all(len(messages.encode(part)) < messages.MOST_FRAME_BYTES for part in parts)
    assert [each for part in parts for each in part.endpoints] == endpoints
