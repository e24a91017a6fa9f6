"""Addresses are given once, whatever happens to the hosts that give them."""

import contextlib
import ipaddress

from tests.integration.vxlan.hosts import AgentError, Host, Underlay, connected, until


def every_address(ranges: list[str]) -> list[str]:
    return [
        str(address) for text in ranges if ":" not in text for address in ipaddress.ip_network(text)
    ]


def all_addresses(host: Host) -> list[str]:
    """Start containers until no address is left."""
    found = []
    with contextlib.suppress(AgentError):
        for number in range(20):
            found.append(host.attach(f"c{number}").ipv4)
    return found


def test_every_address_has_one_owner(underlay: Underlay) -> None:
    hosts = underlay.network(4)
    owned = [address for host in hosts for address in every_address(host.do("ranges"))]
    assert len(owned) == len(set(owned)) == 256
    assert len({tuple(host.attach("c").addresses) for host in hosts}) == 4


def test_host_that_has_run_out_asks_the_others(underlay: Underlay) -> None:
    one, two = underlay.add(), underlay.add()
    one.do("found", ["10.20.0.0/28"], {"local": one.ipv4})
    two.do("join", one.do("token"))
    until(lambda: connected(one) == connected(two) == 2)
    seen = all_addresses(two)
    assert len(seen) == len(set(seen)) >= 11  # of 16: two bridges', the network's, the broadcast
    until(lambda: connected(one) == 2)


def test_addresses_cannot_be_asked_for_across_a_cut(underlay: Underlay) -> None:
    one, two = underlay.add(), underlay.add()
    one.do("found", ["10.20.0.0/28"], {"local": one.ipv4})
    two.do("join", one.do("token"))
    underlay.cut(two)
    until(lambda: connected(one) == connected(two) == 1)
    given = all_addresses(one) + all_addresses(two)
    assert len(given) == len(set(given))


def test_addresses_stay_apart_while_giver_and_taker_are_killed(underlay: Underlay) -> None:
    one, two = underlay.add(), underlay.add()
    one.do("found", ["10.20.0.0/24"], {"local": one.ipv4})
    two.do("join", one.do("token"))
    for number in range(6):
        victim = (one, two)[number % 2]
        other = (two, one)[number % 2]
        until(lambda: connected(one) == connected(two) == 2)
        other.begin("ask")
        victim.kill()
        other.end()
        victim.start()
    until(lambda: connected(one) == connected(two) == 2)
    until(lambda: _all_owned_once(one.do("ranges"), two.do("ranges")))


def _all_owned_once(one: list[str], two: list[str]) -> bool:
    owned = every_address(one) + every_address(two)
    assert len(owned) == len(set(owned))  # at any moment
    return len(owned) == 256  # once what was on its way has arrived
