"""Addresses that several hosts give out."""

from pathlib import Path

import pytest

from orlop.errors import AlreadyExistsError
from orlop.model.network import Subnet
from orlop.model.overlay import Gift, Member, Membership
from orlop.network.shared import SharedAddresses
from orlop.store.database import Database
from orlop.store.memberships import Memberships


def test_nothing_is_given_before_it_is_owned() -> None:
    addresses = SharedAddresses(Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1"))
    assert addresses.take() is None
    assert not addresses.can_give()
    addresses.own(("10.0.0.0/30", "10.0.0.64/31", "fd00::/64"))
    assert [addresses.take() for _ in range(5)] == [
        "10.0.0.2", "10.0.0.3", "10.0.0.64", "10.0.0.65", None,
    ]  # fmt: skip


def test_what_is_given_away_is_not_given_out() -> None:
    addresses = SharedAddresses(Subnet(subnet="10.0.0.0/24"))
    addresses.own(("10.0.0.0/24",))
    addresses.claim("10.0.0.200")
    addresses.own(("10.0.0.0/25",))
    addresses.release("10.0.0.200")
    with pytest.raises(AlreadyExistsError, match="another host's to give"):
        addresses.claim("10.0.0.200")
    addresses.adopt("10.0.0.200")  # found in use
    assert "10.0.0.200" in addresses.taken()


def test_ipv6_subnet_is_not_walked_through() -> None:
    addresses = SharedAddresses(Subnet(subnet="fd00::/64", gateway="fd00::1"))
    addresses.own(("fd00::8000:0:0:0/65",))
    assert addresses.take() == "fd00::8000:0:0:0"
    assert addresses.can_give("fd00::8000:0:0:7")
    assert not addresses.can_give("fd00::7")


def test_membership_is_stored_whole(tmp_path: Path) -> None:
    database = Database(tmp_path / "metadata.db")
    stored = Membership(
        network="ab" * 32,
        secret="cd" * 32,
        me="01" * 8,
        members={"01" * 8: Member(id="01" * 8, address="::1", port=1, received={"x": 2})},
        owned=("10.0.0.0/25",),
        gifts=(Gift(to="02" * 8, number=3, range="10.0.0.128/25"),),
        given={"02" * 8: 3},
        received={"03" * 8: 4},
    )
    Memberships(database).put(stored)
    database.close()
    database = Database(tmp_path / "metadata.db")
    assert Memberships(database).list() == [stored]
    Memberships(database).remove(stored.me)
    assert Memberships(database).list() == []
    database.close()
