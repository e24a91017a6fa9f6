"""Members that are killed, cut off, come back, join and leave."""

import ipaddress
import json
import time

import pytest

from tests.integration.vxlan.hosts import (
    QUICK,
    AgentError,
    Container,
    Host,
    Underlay,
    connected,
    run,
    until,
)


def knows(host: Host, container: Container) -> bool:
    """Whether the kernel of *host* knows all of it: both forwards, and each address."""
    entries = host.entries().splitlines()
    forwards = [line for line in entries if line.startswith(container.mac)]
    owners = [line for line in entries if f"lladdr {container.mac}" in line]
    return len(forwards) == 2 and len(owners) == len(container.addresses)


def status_of(host: Host, other: Host) -> str:
    found: dict[str, str] = {address: status for address, status, _ in host.do("members")}
    return found[other.ipv4]


def is_sent_to(host: Host, other: Host) -> bool:
    """Whether *host* sends *other* what nobody knows."""
    return f"00:00:00:00:00:00 dst {other.ipv4}" in host.entries()


def test_endpoints_are_known_everywhere_and_forgotten_when_they_end(underlay: Underlay) -> None:
    one, two, three = underlay.network(3)
    container = one.attach("c")
    until(lambda: knows(two, container) and knows(three, container))
    one.do("detach", "c")
    until(lambda: container.mac not in two.entries() + three.entries())


def test_killed_engine_leaves_its_containers_connected(underlay: Underlay) -> None:
    one, two = underlay.network(2)
    here, there = one.attach("here"), two.attach("there")
    until(lambda: knows(one, there) and knows(two, here))
    two.kill()
    until(lambda: status_of(one, two) == "silent")
    time.sleep(float(QUICK[2]) + 0.5)  # longer than a host that does not answer is known
    assert status_of(one, two) == "silent"
    assert knows(one, there)  # its host answers, so its containers may well run
    here.hears(there)
    later = one.attach("later")
    two.start()  # rejoins by itself, by what it has stored
    until(lambda: connected(one) == connected(two) == 2)
    until(lambda: knows(one, there) and knows(two, later))
    later.hears(there)


def test_restarted_engine_tells_that_a_container_has_ended_meanwhile(underlay: Underlay) -> None:
    one, two = underlay.network(2)
    container = two.attach("c")
    until(lambda: knows(one, container))
    two.kill()
    run(two.pid, "kill", "-9", str(container.pid))
    record = two.folder / "record.json"
    content = json.loads(record.read_text())
    content["endpoints"], content["pids"] = {}, {}
    record.write_text(json.dumps(content))
    two.start()
    until(lambda: container.mac not in one.entries())


def test_restart_does_not_forget_who_is_still_silent(underlay: Underlay) -> None:
    one, two = underlay.network(2)
    here, there = one.attach("here"), two.attach("there")
    until(lambda: knows(one, there))
    two.kill()
    one.kill()
    one.start()
    until(lambda: status_of(one, two) == "silent")
    assert knows(one, there)
    here.hears(there)


def test_host_that_is_cut_off_is_forgotten_and_comes_back(underlay: Underlay) -> None:
    one, two, three = underlay.network(3)
    here, there = one.attach("here"), three.attach("there")
    until(lambda: knows(one, there) and knows(two, there))
    underlay.cut(three)
    until(lambda: status_of(one, three) == status_of(two, three) == "gone")
    until(lambda: not knows(one, there) and not is_sent_to(one, three))
    until(lambda: status_of(three, one) == "gone" and not knows(three, here))
    meanwhile = one.attach("meanwhile")
    until(lambda: knows(two, meanwhile))
    alone = three.attach("alone")  # each side goes on by itself, with its own addresses
    assert not {*alone.addresses} & {*meanwhile.addresses, *here.addresses}
    underlay.heal(three)
    until(lambda: all(connected(host) == 3 for host in (one, two, three)))
    until(lambda: knows(one, there) and knows(two, alone) and knows(three, meanwhile))
    meanwhile.hears(alone)


def test_members_that_never_met_find_each_other(underlay: Underlay) -> None:
    one, two, three = (underlay.add() for _ in range(3))
    one.do("found", ["10.20.0.0/24"], {"local": one.ipv4})
    token = one.do("token")
    two.do("join", token)
    three.do("join", two.do("token"))  # any member's token is as good
    until(lambda: all(connected(host) == 3 for host in (one, two, three)))
    one.kill()
    four = underlay.add()
    four.do("join", two.do("token"))
    until(lambda: connected(four) == 3)
    one.start()
    until(lambda: all(connected(host) == 4 for host in underlay.hosts))


def test_who_leaves_is_gone_for_all_and_its_addresses_go_on(underlay: Underlay) -> None:
    one, two, three = underlay.network(3)
    underlay.cut(three)
    until(lambda: status_of(one, three) != "connected")
    before = set(one.do("ranges")) | set(two.do("ranges"))
    two.do("leave")
    assert run(two.pid, "ip", "-br", "link", "show", "type", "vxlan") == ""
    assert run(two.pid, "nft", "list", "tables") == ""
    until(lambda: len(one.do("members")) == 2)
    assert not is_sent_to(one, two)
    assert sum(map(_size, one.do("ranges"))) == sum(map(_size, before))
    underlay.heal(three)
    until(lambda: connected(three) == 2 and len(three.do("members")) == 2)
    two.do("join", one.do("token"))  # as somebody new
    until(lambda: all(connected(host) == 3 for host in (one, two, three)))


def _size(text: str) -> int:
    return ipaddress.ip_network(text).num_addresses


def test_leave_that_reaches_nobody_is_made_up_for_later(underlay: Underlay) -> None:
    one, two = underlay.network(2)
    total = sum(_size(text) for host in (one, two) for text in host.do("ranges"))
    underlay.cut(two)
    until(lambda: status_of(two, one) != "connected")
    two.do("leave")
    two.kill()
    two.start()
    underlay.heal(two)
    until(lambda: len(one.do("members")) == 1)
    assert sum(map(_size, one.do("ranges"))) == total


def test_last_member_leaves_without_ado(underlay: Underlay) -> None:
    one = underlay.network(1)[0]
    one.do("leave")
    assert run(one.pid, "ip", "-br", "link").count("or-") == 0
    assert one.do("found", ["10.20.0.0/24"], {"local": one.ipv4})["mtu"] == 1450


def test_join_that_is_killed_midway_leaves_nothing(underlay: Underlay) -> None:
    one, two = underlay.add(), underlay.add()
    one.do("found", ["10.20.0.0/24"], {"local": one.ipv4})
    total = sum(map(_size, one.do("ranges")))
    token = one.do("token")
    for _ in range(5):
        two.begin("join", token)
        until(lambda: len(one.do("members")) > 1)
        two.kill()
        (two.folder / "record.json").unlink(missing_ok=True)  # as if it had not got so far
        two.start()
        until(lambda: len(one.do("members")) == 1)
        until(lambda: sum(map(_size, one.do("ranges"))) == total)


def test_second_join_is_refused(underlay: Underlay) -> None:
    one, two = underlay.network(2)
    with pytest.raises(AgentError, match="this host is a member of the network net already"):
        two.do("join", one.do("token"))
