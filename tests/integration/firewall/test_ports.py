"""Published ports: from where they are reached, and from where not. Real packets."""

import errno
import socket
from collections.abc import Callable

import pytest

from orlop.kernel.conntrack import Conntrack, Flow
from orlop.model.network import Protocol
from orlop.network.firewall.firewall import Firewall
from tests.integration.firewall import lab as labs
from tests.integration.firewall.conftest import TABLE, port
from tests.integration.firewall.lab import HOST, HOST_OTHER, LOOPBACK, Lab, blocked, source_seen

every_kind = pytest.mark.parametrize(
    ("version", "protocol"), [(4, "tcp"), (4, "udp"), (6, "tcp"), (6, "udp")]
)


@every_kind
def test_a_port_on_every_address_is_reached_from_wherever_the_host_is_reached(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    with lab.host:
        firewall.publish([port("a", 8080, protocol=protocol, version=version)])
    gateway = labs.gateway("one", version)
    with labs.listening(lab.containers["a"], protocol, version, 80) as server:
        assert (
            source_seen(server, lab.neighbour, protocol, (HOST[version], 8080))
            == labs.NEIGHBOUR[version]
        )
        for who in ("host", "a", "b", "c"):
            seen = source_seen(server, lab.place(who), protocol, (HOST_OTHER[version], 8080))
            assert seen, who
            if who != "host":
                assert seen == gateway  # so that the answer comes back this way
        assert source_seen(server, lab.host, protocol, (LOOPBACK[version], 8080)) == gateway


@every_kind
def test_calls_of_the_same_port_elsewhere_go_where_they_are_sent(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    with lab.host:
        firewall.publish([port("a", 8080, protocol=protocol, version=version)])
    with labs.listening(lab.neighbour, protocol, version, 8080) as server:
        for who in ("host", "a", "c"):
            target = (labs.NEIGHBOUR[version], 8080)
            assert source_seen(server, lab.place(who), protocol, target), who
    with labs.listening(lab.containers["b"], protocol, version, 8080) as server:
        target = (labs.address("b", version), 8080)
        assert source_seen(server, lab.host, protocol, target)


@every_kind
def test_a_withdrawn_port_leads_nowhere(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    published = port("a", 8080, protocol=protocol, version=version)
    with lab.host:
        firewall.publish([published])
        firewall.withdraw([published])
        firewall.withdraw([published])
    with labs.listening(lab.containers["a"], protocol, version, 80) as server:
        assert blocked(server, lab.neighbour, protocol, (HOST[version], 8080))


@every_kind
def test_a_port_of_one_address_is_reached_by_that_address_alone(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    with lab.host:
        here = HOST_OTHER[version]
        firewall.publish([port("a", 8080, protocol=protocol, version=version, host_ip=here)])
    with labs.listening(lab.containers["a"], protocol, version, 80) as server:
        assert source_seen(server, lab.neighbour, protocol, (HOST_OTHER[version], 8080))
        assert source_seen(server, lab.host, protocol, (HOST_OTHER[version], 8080))
        for who in (lab.neighbour, lab.host):
            assert blocked(server, who, protocol, (HOST[version], 8080))
        assert blocked(server, lab.host, protocol, (LOOPBACK[version], 8080))


@every_kind
def test_two_addresses_may_have_the_same_port_for_two_containers(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    with lab.host:
        firewall.publish(
            [
                port("a", 8080, protocol=protocol, version=version),
                port("b", 8080, protocol=protocol, version=version, host_ip=HOST_OTHER[version]),
            ]
        )
    for container, address in (("a", HOST[version]), ("b", HOST_OTHER[version])):
        with labs.listening(lab.containers[container], protocol, version, 80) as server:
            assert source_seen(server, lab.neighbour, protocol, (address, 8080))


@every_kind
def test_a_port_of_loopback_is_reached_from_the_host_alone(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    """Also by who sends packets for 127.0.0.1 to us, and where others allowed such to come in."""
    here = LOOPBACK[version]
    with lab.host:
        firewall.publish([port("a", 8080, protocol=protocol, version=version, host_ip=here)])
    with labs.listening(lab.containers["a"], protocol, version, 80) as server:
        assert source_seen(server, lab.host, protocol, (here, 8080))
        for who in ("neighbour", "b", "c", "d"):
            assert blocked(server, lab.place(who), protocol, (HOST[version], 8080))
        with _Loopback(lab, "neighbour", version):
            lab.host.sysctl("ipv4/conf/eth0/route_localnet", "1")
            assert blocked(server, lab.neighbour, protocol, (here, 8080))
            lab.host.sysctl("ipv4/conf/eth0/route_localnet", "0")


@every_kind
def test_containers_do_not_reach_what_listens_on_the_hosts_loopback(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    with lab.host:
        firewall.publish([port("a", 8080, protocol=protocol, version=version)])
    if version == 4:
        assert lab.host.sysctl("ipv4/conf/one/route_localnet") == "1"
        assert lab.host.sysctl("ipv4/conf/two/route_localnet") == "0"
    target = (LOOPBACK[version], 9000)
    with labs.listening(lab.host, protocol, version, 9000, LOOPBACK[version]) as server:
        assert source_seen(server, lab.host, protocol, target)
        with _Loopback(lab, "b", version):
            assert blocked(server, lab.containers["b"], protocol, target)


def test_ipv6_loopback_is_refused_at_once_where_bridges_filter_ipv6(
    lab: Lab, firewall: Firewall
) -> None:
    """The answer could not come back, and a program that tries ::1 first would wait for it."""
    lab.host.sysctl("bridge/bridge-nf-call-ip6tables", "1")
    with lab.host:
        firewall.publish([port("a", 8080, version=6)])
        firewall.restore()
    with labs.listening(lab.containers["a"], "tcp", 6, 80) as server:
        assert source_seen(server, lab.neighbour, "tcp", (HOST[6], 8080))
        with lab.host, socket.socket(socket.AF_INET6) as caller:
            caller.settimeout(labs.PATIENCE_S)
            with pytest.raises(ConnectionRefusedError):
                caller.connect(("::1", 8080))


@every_kind
def test_a_container_calls_itself_where_bridges_filter(
    lab: Lab, firewall: Firewall, version: int, protocol: Protocol
) -> None:
    """With br_netfilter the packet is bridged, so its port has to let it out where it came in."""
    for family in ("iptables", "ip6tables"):
        lab.host.sysctl(f"bridge/bridge-nf-call-{family}", "1")
    lab.host.run("bridge link set dev ve-a hairpin on")
    with lab.host:
        firewall.publish([port("a", 8080, protocol=protocol, version=version)])
    with labs.listening(lab.containers["a"], protocol, version, 80) as server:
        for who in ("a", "b", "c", "neighbour"):
            assert source_seen(server, lab.place(who), protocol, (HOST[version], 8080)), who


def test_ports_of_sctp_are_translated(lab: Lab, firewall: Firewall) -> None:
    """The kernel may lack SCTP's sockets, so the packet is made by hand."""
    with lab.host:
        firewall.publish([port("a", 8080, protocol="sctp", container_port=36412)])
    chunk = bytes.fromhex("0100001400000001000010000001000100000001")  # INIT
    packet = (1000).to_bytes(2, "big") + (8080).to_bytes(2, "big") + bytes(4)
    packet += _crc32c(packet + bytes(4) + chunk).to_bytes(4, "little") + chunk
    with lab.containers["a"], socket.socket(socket.AF_INET, socket.SOCK_RAW, 132) as server:
        server.settimeout(labs.PATIENCE_S)
        with lab.neighbour, socket.socket(socket.AF_INET, socket.SOCK_RAW, 132) as caller:
            caller.sendto(packet, (HOST[4], 0))
            received = server.recv(200)
    assert int.from_bytes(received[22:24], "big") == 36412


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("others", [0, 1])
def test_a_udp_flow_from_before_is_led_to_the_container_and_away_from_it(
    lab: Lab, firewall: Firewall, version: int, others: int
) -> None:
    published = [
        port("a", number, protocol="udp", version=version) for number in range(5353, 5354 + others)
    ]
    changes: dict[str, Callable[[], None]] = {
        "before": lambda: None,
        "published": lambda: firewall.publish(published),
        "withdrawn": lambda: firewall.withdraw(published),
    }
    with lab.neighbour, labs.make_socket("udp", version) as caller:
        caller.connect((HOST[version], 5353))
        for when, change in changes.items():
            with lab.host:
                change()
            answering = (
                labs.listening(lab.containers["a"], "udp", version, 80)
                if when == "published"
                else labs.listening(lab.host, "udp", version, 5353, HOST[version])
            )
            with answering as server:
                caller.send(b"ping")
                data, peer = server.recvfrom(10)
                server.sendto(b"pong", peer)
                assert (data, caller.recv(10)) == (b"ping", b"pong")


@pytest.mark.parametrize("kernel", ["of now", "before 6.11"])
def test_flows_of_a_withdrawn_port_are_forgotten_in_one_go(
    lab: Lab, firewall: Firewall, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    first = 5400 if kernel == "of now" else 5500
    here, other = (port("a", number, protocol="udp") for number in (first, first + 1))
    elsewhere = port("b", first + 2, protocol="udp")
    asked: list[Flow] = []
    forget = Conntrack.forget

    def forget_one(self: Conntrack, flow: Flow) -> None:
        asked.append(flow)
        forget(self, flow)

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    def flows(number: int) -> int:
        with Conntrack() as conntrack:
            return len(conntrack.flows(socket.AF_INET, socket.IPPROTO_UDP, number))

    monkeypatch.setattr(Conntrack, "forget", forget_one)
    if kernel != "of now":
        monkeypatch.setattr(Conntrack, "forget_all", refuse)
    with lab.host:
        firewall.publish([here, other, elsewhere])
    with lab.neighbour:
        for number in (*(here.host_port, other.host_port, elsewhere.host_port),) * 5:
            with labs.make_socket("udp", 4) as caller:
                caller.sendto(b"ping", (HOST[4], number))
    with lab.host:
        assert flows(here.host_port) == 5
        firewall.withdraw([here])
        assert [flows(first), flows(first + 1), flows(first + 2)] == [0, 5, 5]
    assert len(asked) == (0 if kernel == "of now" else 5)


def test_publishing_a_port_leaves_calls_to_that_port_of_others_alone(
    lab: Lab, firewall: Firewall
) -> None:
    with (
        labs.listening(lab.neighbour, "udp", 4, 53) as server,
        lab.containers["b"],
        labs.make_socket("udp", 4) as caller,
    ):
        caller.connect((labs.NEIGHBOUR[4], 53))
        caller.send(b"ping")
        _, peer = server.recvfrom(10)
        with lab.host:
            firewall.publish([port("a", 53, protocol="udp")])
            firewall.withdraw([port("a", 53, protocol="udp")])
        server.sendto(b"pong", peer)
        assert caller.recv(10) == b"pong"


def test_publishing_again_to_another_container_replaces(lab: Lab, firewall: Firewall) -> None:
    with lab.host:
        firewall.publish([port("a", 8080)])
        firewall.publish([port("a", 8080)])
        firewall.publish([port("b", 8080)])
        firewall.withdraw([port("a", 8080)])
    with labs.listening(lab.containers["b"], "tcp", 4, 80) as server:
        assert source_seen(server, lab.neighbour, "tcp", (HOST[4], 8080))


def test_elements_are_put_back_when_the_table_is_gone(lab: Lab, firewall: Firewall) -> None:
    with lab.host:
        firewall.publish([port("a", 8080)])
        labs.run(f"nft delete table {TABLE}")
        firewall.publish([port("b", 8081)])
    for name, number in (("a", 8080), ("b", 8081)):
        with labs.listening(lab.containers[name], "tcp", 4, 80) as server:
            assert source_seen(server, lab.neighbour, "tcp", (HOST[4], number))


class _Loopback:
    """Meanwhile *who* sends packets for the loopback address to the host, and takes answers."""

    def __init__(self, lab: Lab, who: str, version: int) -> None:
        self._place = lab.place(who)
        network = labs.CONTAINERS[who][0] if who in labs.CONTAINERS else ""
        via = labs.gateway(network, version) if network else HOST[version]
        address, table = LOOPBACK[version], f"ip -{version}"
        self._do = [
            f"{table} route add {address} via {via} dev eth0 table 100",
            f"{table} rule add pref 1 to {address} lookup 100",
            f"{table} rule add pref 2 lookup local",
            f"{table} rule del pref 0",
        ]
        self._undo = [
            f"{table} rule add pref 0 lookup local",
            f"{table} rule del pref 1",
            f"{table} rule del pref 2",
            f"{table} route flush table 100",
        ]
        self._version = version

    def __enter__(self) -> None:
        self._place.run(*self._do)
        if self._version == 4:
            self._place.sysctl("ipv4/conf/eth0/route_localnet", "1")

    def __exit__(self, *_: object) -> None:
        self._place.run(*self._undo)


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
