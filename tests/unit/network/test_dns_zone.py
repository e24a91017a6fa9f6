"""What containers find under which names."""

import ipaddress
from collections import Counter

from orlop.network.dns.message import Query, Type, reverse_name, wire_name
from orlop.network.dns.zone import Place, View, Zone

IDS = {name: (name * 64)[:64] for name in "abc"}


def ask(name: str | bytes, type_: int = Type.A, class_: int = 1) -> Query:
    wire = name if isinstance(name, bytes) else wire_name(name)
    assert wire is not None
    return Query(0, 0, wire, type_, class_, wire + bytes(4), 512, None)


def found(zone: Zone, who: str, name: str | bytes, type_: int = Type.A) -> list[str] | None:
    records = zone.records(IDS[who], ask(name, type_))
    if records is None:
        return None
    return sorted(str(ipaddress.ip_address(record[12:])) for record in records)


def view(who: str, name: str, *places: Place) -> View:
    return View(IDS[who], name, places)


def two() -> Zone:
    zone = Zone()
    zone.put(view("a", "web", Place("1", "front", ("10.0.0.2",), ("site", "WWW"))))
    zone.put(view("b", "db", Place("1", "front", ("10.0.0.3", "fd00::3"), ("site",))))
    return zone


def test_names_aliases_and_the_start_of_an_id_are_found_whatever_their_case() -> None:
    zone = two()
    for name in ("web", "WEB", "www", IDS["a"][:12], "web.front", "www.FRONT"):
        assert found(zone, "b", name.lower()) == ["10.0.0.2"], name
    assert found(zone, "b", "web.back") is None
    assert found(zone, "b", "nobody") is None


def test_a_name_of_several_is_found_at_all_of_them_in_any_order() -> None:
    zone = two()
    first: Counter[bytes] = Counter()
    for _ in range(200):
        records = zone.records(IDS["a"], ask("site"))
        assert records is not None
        assert len(records) == 2
        first[records[0][12:]] += 1
    assert set(first) == {bytes([10, 0, 0, 2]), bytes([10, 0, 0, 3])}
    zone.drop(IDS["a"])
    assert found(zone, "b", "site") == ["10.0.0.3"]


def test_a_name_without_such_a_record_is_known_and_empty() -> None:
    zone = two()
    assert found(zone, "a", "db", Type.AAAA) == ["fd00::3"]
    assert found(zone, "b", "web", Type.AAAA) == []
    assert zone.records(IDS["b"], ask("web", 15)) == []
    assert zone.records(IDS["b"], ask("web", class_=3)) is None


def test_addresses_have_names() -> None:
    zone = two()
    for address, name in (("10.0.0.2", "web.front"), ("fd00::3", "db.front")):
        reverse = reverse_name(ipaddress.ip_address(address).packed)
        records = zone.records(IDS["a"], ask(reverse, Type.PTR))
        assert records is not None
        assert records[0][12:] == wire_name(name)


def test_nobody_sees_names_of_a_network_that_is_not_his() -> None:
    zone = two()
    zone.put(view("c", "other", Place("2", "back", ("10.1.0.2",), ("site",))))
    assert found(zone, "c", "web") is None
    assert found(zone, "c", "site") == ["10.1.0.2"]
    assert zone.records(IDS["c"], ask(reverse_name(bytes([10, 0, 0, 2])), Type.PTR)) is None
    assert found(zone, "a", "other") is None


def test_of_several_networks_the_first_that_knows_a_name_counts() -> None:
    zone = two()
    both = (Place("2", "back", ("10.1.0.9",)), Place("1", "front", ("10.0.0.9",)))
    zone.put(view("c", "both", *both))
    assert found(zone, "c", "both") == ["10.1.0.9"]
    assert found(zone, "c", "both.front") == ["10.0.0.9"]
    assert found(zone, "c", "web") == ["10.0.0.2"]
    assert found(zone, "a", "both") == ["10.0.0.9"]


def test_a_link_is_seen_by_its_owner_alone() -> None:
    zone = two()
    zone.put(view("c", "client", Place("1", "front", ("10.0.0.4",), links={"store": "db"})))
    assert found(zone, "c", "store") == ["10.0.0.3"]
    assert found(zone, "c", "store.front") == ["10.0.0.3"]
    assert found(zone, "a", "store") is None


def test_a_new_view_leaves_nothing_of_the_old_one() -> None:
    zone = two()
    zone.put(view("a", "renamed", Place("1", "front", ("10.0.0.7",))))
    assert found(zone, "b", "web") is None
    assert found(zone, "b", "www") is None
    assert found(zone, "b", "renamed") == ["10.0.0.7"]
    assert zone.records(IDS["b"], ask(reverse_name(bytes([10, 0, 0, 2])), Type.PTR)) is None
    for who in IDS.values():
        zone.drop(who)
    assert len(zone) == 0
    assert not zone._networks


def test_a_network_without_names_gives_none_but_lets_questions_out() -> None:
    zone = Zone()
    default = Place("0", "bridge", ("172.17.0.2",), named=False)
    inner = Place("1", "front", ("10.0.0.2",), internal=True)
    zone.put(view("a", "web", default, inner))
    assert found(zone, "a", "web") == ["10.0.0.2"]
    assert not view("a", "web", default, inner).isolated
    assert view("a", "web", inner).isolated


def test_names_that_dns_cannot_say_are_left_out() -> None:
    zone = Zone()
    zone.put(view("a", "x" * 80, Place("1", "front", ("10.0.0.2",), ("short",))))
    assert found(zone, "a", "short") == ["10.0.0.2"]
