"""Ports that are kept: from other programs, from other containers, and given back."""

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Literal

import pytest

from orlop.errors import AlreadyExistsError, ExhaustedError, InvalidArgumentError
from orlop.model.network import PortMapping
from orlop.network.firewall.reserve import PortRequest, Ports
from tests.integration.firewall.lab import Place, make_socket

either = pytest.mark.parametrize("protocol", ["tcp", "udp"])
Either = Literal["tcp", "udp"]


@pytest.fixture
def host() -> Iterator[Place]:
    with closing(Place()) as place, place:
        yield place


def can_bind(protocol: str, address: str, port: int) -> bool:
    with make_socket(protocol, 6 if ":" in address else 4) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, protocol == "tcp")
        if ":" in address:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            other.bind((address, port))
        except OSError:
            return False
        return True


@either
@pytest.mark.usefixtures("host")
def test_a_kept_port_is_nobody_elses_until_it_is_let_go(protocol: Either) -> None:
    reservation = Ports().reserve([PortRequest(protocol, 80, 8080, 8080)])
    assert reservation.mappings == (
        PortMapping(protocol=protocol, container_port=80, host_port=8080),
    )
    for address in ("0.0.0.0", "127.0.0.1", "::", "::1"):
        assert not can_bind(protocol, address, 8080)
        assert can_bind(protocol, address, 8081)
    reservation.close()
    reservation.close()
    for address in ("0.0.0.0", "::"):
        assert can_bind(protocol, address, 8080)


@either
@pytest.mark.usefixtures("host")
def test_a_port_of_one_address_leaves_the_others_free(protocol: Either) -> None:
    with closing(Ports().reserve([PortRequest(protocol, 80, 8080, 8080, "127.0.0.1")])):
        assert not can_bind(protocol, "127.0.0.1", 8080)
        assert can_bind(protocol, "127.0.0.2", 8080)
        assert can_bind(protocol, "::1", 8080)


@either
@pytest.mark.usefixtures("host")
def test_what_a_container_has_is_allocated(protocol: Either) -> None:
    ports = Ports()
    with closing(ports.reserve([PortRequest(protocol, 80, 8080, 8080)])):
        for address in ("", "0.0.0.0", "127.0.0.1"):
            shown = address or "0.0.0.0"
            with pytest.raises(
                AlreadyExistsError, match=f"^Bind for {shown}:8080 failed: port is "
            ):
                ports.reserve([PortRequest(protocol, 80, 8080, 8080, address)])
        with pytest.raises(AlreadyExistsError, match=r"^Bind for \[::1\]:8080 failed: port is "):
            ports.reserve([PortRequest(protocol, 80, 8080, 8080, "::1")])


@either
@pytest.mark.usefixtures("host")
def test_what_another_program_has_is_in_use_and_nothing_else_is_kept(protocol: Either) -> None:
    ports = Ports()
    with make_socket(protocol, 6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 8080))
        if protocol == "tcp":
            other.listen()
        with pytest.raises(AlreadyExistsError, match=r"^Bind for \[::\]:8080 failed: address "):
            ports.reserve(
                [PortRequest(protocol, 1, 7070, 7070), PortRequest(protocol, 2, 8080, 8080)]
            )
    with closing(ports.reserve([PortRequest(protocol, 1, 7070, 7070)])):
        pass
    with closing(ports.reserve([PortRequest(protocol, 2, 8080, 8080)])):
        pass


@pytest.mark.usefixtures("host")
def test_connections_of_an_earlier_server_that_fade_out_do_not_hinder() -> None:
    with make_socket("tcp", 4) as server, make_socket("tcp", 4) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 8080))
        server.listen()
        client.connect(("127.0.0.1", 8080))
        server.accept()[0].close()
        assert client.recv(1) == b""
    with make_socket("tcp", 4) as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("0.0.0.0", 8080))
    with closing(Ports().reserve([PortRequest("tcp", 80, 8080, 8080)])):
        assert not can_bind("tcp", "127.0.0.1", 8080)
        with make_socket("tcp", 4) as caller, pytest.raises(ConnectionRefusedError):
            caller.connect(("127.0.0.1", 8080))


@either
def test_free_ports_come_from_the_range_that_the_host_gives_out(
    host: Place, protocol: Either
) -> None:
    host.sysctl("ipv4/ip_local_port_range", "40000 40003")
    ports = Ports()
    with make_socket(protocol, 4) as other:
        other.bind(("127.0.0.1", 40001))
        if protocol == "tcp":
            other.listen()
        with closing(
            ports.reserve([PortRequest(protocol, number) for number in (1, 2, 3)])
        ) as kept:
            assert {one.host_port for one in kept.mappings} == {40000, 40002, 40003}
            with pytest.raises(ExhaustedError, match=f"no {protocol} port"):
                ports.reserve([PortRequest(protocol, 4)])
        with closing(ports.reserve([PortRequest(protocol, 1)])) as first:
            again = ports.reserve([PortRequest(protocol, 1)])
            assert again.mappings != first.mappings
            again.close()


@pytest.mark.usefixtures("host")
def test_one_more_port_costs_the_same_however_many_there_are() -> None:
    ports = Ports()
    one, many = PortRequest("tcp", 80, 30000, 30000), range(20000, 20500)
    alone = _calls(ports, one)
    with closing(ports.reserve([PortRequest("tcp", 80, port, port) for port in many])):
        assert _calls(ports, one) == alone


def _calls(ports: Ports, request: PortRequest) -> int:
    """Return how many functions, and steps of generators, it takes to keep a port."""
    count = 0

    def called(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        reservation = ports.reserve([request])
    finally:
        sys.setprofile(None)
    reservation.close()
    return count


@pytest.mark.usefixtures("host")
def test_of_a_range_the_first_free_one_is_taken() -> None:
    ports = Ports()
    first, second = (ports.reserve([PortRequest("tcp", 80, 8080, 8081)]) for _ in range(2))
    assert [one.mappings[0].host_port for one in (first, second)] == [8080, 8081]
    with pytest.raises(AlreadyExistsError, match="8080-8081 failed: all ports are "):
        ports.reserve([PortRequest("tcp", 80, 8080, 8081)])
    first.close()
    second.close()


@pytest.mark.usefixtures("host")
def test_ports_of_sctp_are_known_also_without_sockets_for_it() -> None:
    ports = Ports()
    with (
        closing(ports.reserve([PortRequest("sctp", 80, 8080, 8080)])),
        pytest.raises(AlreadyExistsError, match="port is already allocated"),
    ):
        ports.reserve([PortRequest("sctp", 80, 8080, 8080, "127.0.0.1")])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PortRequest("tcp", 0, 80, 80), "0 is no port number"),
        (PortRequest("tcp", 80, 80, 65536), "80-65536 is no range of ports"),
        (PortRequest("tcp", 80, 81, 80), "81-80 is no range of ports"),
        (PortRequest("tcp", 80, 80, 80, "192.0.2.1"), "no address 192.0.2.1 on this host"),
        (PortRequest("tcp", 80, 80, 80, "all"), "'all' is no IP address"),
    ],
)
@pytest.mark.usefixtures("host")
def test_what_cannot_be_is_said(request_: PortRequest, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Ports().reserve([request_])


@pytest.mark.usefixtures("host")
def test_the_next_engine_keeps_what_containers_have() -> None:
    wanted = [PortMapping(protocol="tcp", container_port=80, host_port=one) for one in (8080, 8081)]
    with make_socket("tcp", 4) as other:
        other.bind(("127.0.0.1", 8081))
        other.listen()
        reservation, lost = Ports().keep(wanted)
    with closing(reservation):
        assert reservation.mappings == (wanted[0],)
        assert lost == [wanted[1]]
        assert not can_bind("tcp", "0.0.0.0", 8080)


def test_without_ipv6_ports_of_ipv4_are_kept(host: Place) -> None:
    host.sysctl("ipv6/conf/all/disable_ipv6", "1")
    with closing(Ports().reserve([PortRequest("tcp", 80, 8080, 8080)])):
        assert not can_bind("tcp", "0.0.0.0", 8080)
