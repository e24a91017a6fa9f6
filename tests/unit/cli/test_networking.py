"""From the options about networks and ports to what is sent."""

from typing import Any

import pytest

from orlop.cli.container import ports
from orlop.cli.container.body import create_body
from orlop.cli.container.networking import bandwidth, extra_host
from orlop.cli.container.run import RunCommand
from orlop.cli.network.create import NetworkCreateCommand
from orlop.cli.network.create import body as network_body
from orlop.cli.output.portlist import port_list
from orlop.cli.parser import parse
from orlop.errors import InvalidArgumentError
from tests.imports import modules_after


def body(*words: str) -> dict[str, Any]:
    return create_body(parse(RunCommand, [*words, "alpine"]), attached=False)


def endpoints(*words: str) -> dict[str, Any]:
    made: dict[str, Any] = body(*words)["NetworkingConfig"]["EndpointsConfig"]
    return made


@pytest.mark.parametrize("mode", ["web", "host", "none", "container:db", "ns:/run/netns/a=b"])
def test_one_network_by_name_is_a_mode_and_nothing_else(mode: str) -> None:
    made = body("--network", mode)
    assert made["HostConfig"]["NetworkMode"] == mode
    assert "NetworkingConfig" not in made


def test_one_network_by_name_imports_nothing_for_more() -> None:
    words = "['--network', 'web', '-d', 'alpine']"
    found = modules_after(
        "from orlop.cli.container.run import RunCommand; from orlop.cli.parser import parse; "
        f"from orlop.cli.container.body import create_body; "
        f"create_body(parse(RunCommand, {words}), attached=False)"
    )
    assert {
        "orlop.cli.container.networking",
        "orlop.cli.container.ports",
        "_socket",
    } & found == set()


def test_options_are_about_the_first_network() -> None:
    words = ["--network", "web", "--network", "db", "--ip", "10.1.0.9", "--ip6", "fd00::9"]
    words += ["--mac-address", "02:42:00:00:00:01", "--network-alias", "a", "--network-alias", "b"]
    words += ["--link-local-ip", "169.254.1.1", "--link", "c:d"]
    assert body(*words)["HostConfig"]["NetworkMode"] == "web"
    assert endpoints(*words) == {
        "web": {
            "IPAMConfig": {
                "IPv4Address": "10.1.0.9",
                "IPv6Address": "fd00::9",
                "LinkLocalIPs": ["169.254.1.1"],
            },
            "Aliases": ["a", "b"],
            "Links": ["c:d"],
            "MacAddress": "02:42:00:00:00:01",
        },
        "db": {},
    }


def test_network_can_be_said_in_full() -> None:
    full = "name=db,alias=x,alias=y,ip=10.2.0.2,ip6=fd00::2,mac-address=02:42:00:00:00:02"
    full += ",driver-opt=k=v,link-local-ip=fe80::9,gw-priority=-1"
    assert endpoints("--network", "web", "--network", full)["db"] == {
        "IPAMConfig": {
            "IPv4Address": "10.2.0.2",
            "IPv6Address": "fd00::2",
            "LinkLocalIPs": ["fe80::9"],
        },
        "Aliases": ["x", "y"],
        "MacAddress": "02:42:00:00:00:02",
        "DriverOpts": {"k": "v"},
        "GwPriority": -1,
    }


def test_links_on_the_default_network_are_the_old_ones() -> None:
    assert body("--link", "db:store")["HostConfig"]["Links"] == ["db:store"]
    assert "Links" not in body("--network", "web", "--link", "db")["HostConfig"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--network", ""], "no name set for network"),
        (["--network", "a", "--network", "a"], 'network "a" is specified multiple times'),
        (["--network", "host", "--network", "a"], "cannot attach both user-defined and non-user"),
        (["--network", "a", "--network", "container:b"], "cannot attach both user-defined"),
        (["--network", "alias=x"], "network name/id is not specified"),
        (["--network", "name=a,alias"], "invalid field alias"),
        (["--network", "name=a,colour=red"], "invalid field key colour"),
        (["--network", "name=a,driver-opt=k"], "invalid key value pair"),
        (["--network", "name=a,gw-priority=high"], "invalid gw-priority 'high'"),
        (["--network", "name=a,ip=10.0.0.1", "--ip", "10.0.0.2"], "both --ip and per-network IPv4"),
        (["--network", "name=a,alias=x", "--network-alias", "y"], "per-network alias"),
        (["--network-alias", "x"], "aliases are only supported for user-defined networks"),
        (["--network", "none", "--link", "x"], "links are only supported for user-defined"),
        (["--mac-address", "zz"], "zz is not a valid mac address"),
        (["--bandwidth", "10mbit"], "expected in=10mbit,out=10mbit"),
        (["--bandwidth", "in=fast"], "expected a rate such as 10mbit"),
        (["--bandwidth", "in=0"], "expected a rate such as 10mbit"),
        (["--bandwidth", "in-burst=1mbit"], "a burst needs a rate"),
        (["--add-host", "nope"], 'bad format for add-host: "nope"'),
    ],
)
def test_nonsense_about_networks_is_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        body(*words)
    assert sentence in str(caught.value)


def test_bandwidth_is_in_bits_a_second() -> None:
    assert bandwidth("in=10mbit,out=1.5gbit,out-burst=256kbit") == {
        "IngressRate": 10_000_000,
        "EgressRate": 1_500_000_000,
        "EgressBurst": 256_000,
    }
    assert body("--bandwidth", "in=800")["HostConfig"]["Bandwidth"] == {"IngressRate": 800}


@pytest.mark.parametrize("spelling", ["h:::1", "h=::1", "h:[::1]", "h=[::1]"])
def test_hosts_are_spelled_one_way(spelling: str) -> None:
    assert extra_host(spelling) == "h:::1"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["80"], {"80/tcp": [("", "")]}),
        (["8080:80"], {"80/tcp": [("", "8080")]}),
        (["8080:80/UDP"], {"80/udp": [("", "8080")]}),
        (["80/sctp"], {"80/sctp": [("", "")]}),
        ([":80"], {"80/tcp": [("", "")]}),
        (["0:80"], {"80/tcp": [("", "0")]}),
        (["127.0.0.1:8080:80"], {"80/tcp": [("127.0.0.1", "8080")]}),
        (["127.0.0.1::80"], {"80/tcp": [("127.0.0.1", "")]}),
        (["[::1]:8080:80"], {"80/tcp": [("::1", "8080")]}),
        (["[fe80::1]::80-81"], {"80/tcp": [("fe80::1", "")], "81/tcp": [("fe80::1", "")]}),
        (["9000-9001:90-91"], {"90/tcp": [("", "9000")], "91/tcp": [("", "9001")]}),
        (["90-91/udp"], {"90/udp": [("", "")], "91/udp": [("", "")]}),
        (["8000-8010:80"], {"80/tcp": [("", "8000-8010")]}),
        (["80:80", "80:80", "81:80"], {"80/tcp": [("", "80"), ("", "81")]}),
        (["published=8080,target=80"], {"80/tcp": [("", "8080")]}),
        (["target=53,protocol=udp"], {"53/udp": [("", "")]}),
    ],
)
def test_ports_are_published_in_all_forms(
    words: list[str], wanted: dict[str, list[tuple[str, str]]]
) -> None:
    made = ports.bindings(words)
    assert {
        port: [(place["HostIp"], place["HostPort"]) for place in places]
        for port, places in made.items()
    } == wanted


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("foo", "invalid containerPort: foo"),
        ("80:foo", "invalid containerPort: foo"),
        ("0", "invalid containerPort: 0"),
        ("99999", "invalid containerPort: 99999"),
        ("٣", "invalid containerPort: ٣"),
        ("82-80:82-80", "invalid containerPort: 82-80"),
        ("1.2.3.4:80", "invalid hostPort: 1.2.3.4"),
        ("-1:80", "invalid hostPort: -1"),
        ("80:", "no port specified: 80:<empty>"),
        ("80/foo", "invalid proto: foo"),
        ("80-82:80-81", "invalid ranges specified for container and host Ports: 80-81 and 80-82"),
        ("80:80:80", "invalid IP address: 80"),
        ("localhost:80:80", "invalid IP address: localhost"),
        ("::1:80:80", "invalid IP address ::1: an IPv6 address is written in brackets"),
        ("[::1:80:80", "an IPv6 address is written in brackets"),
        ("[1.2.3.4]:80:80", "invalid IP address: [1.2.3.4]"),
        ("target=80,host=1", "invalid publish opts format"),
        ("published=80", "no port|invalid containerPort"),
    ],
)
def test_a_port_that_is_none_is_named(word: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is compared below)
        ports.bindings([word])
    assert any(part in str(caught.value) for part in sentence.split("|"))


def test_published_ports_are_exposed_too() -> None:
    made = ports.exposed(["7000-7001/udp", "80"], ["8080:81"])
    assert list(made) == ["7000/udp", "7001/udp", "80/tcp", "81/tcp"]


@pytest.mark.parametrize("word", ["foo", "0", "81-80", "99999", "80/foo", "80:80", ""])
def test_a_port_that_cannot_be_exposed_is_named(word: str) -> None:
    with pytest.raises(ValueError, match=f"for --expose: {word}"):
        ports.exposed([word], [])


def listed(inner: int, *, ip: str = "", outer: int = 0, protocol: str = "tcp") -> dict[str, Any]:
    shape = {"PrivatePort": inner, "Type": protocol}
    return {**shape, "IP": ip, "PublicPort": outer} if ip else shape


def test_ports_that_follow_each_other_are_joined() -> None:
    shown = port_list(
        [
            listed(82, ip="0.0.0.0", outer=9003),
            *(listed(port, ip=ip, outer=port) for port in (9101, 9100) for ip in ("0.0.0.0", "::")),
            *(listed(port) for port in (7002, 7000, 7001)),
            listed(7003, protocol="udp"),
            listed(9103, ip="0.0.0.0", outer=9103),
            listed(80, ip="127.0.0.1", outer=8080),
            listed(81, ip="127.0.0.1", outer=8081),
        ]
    )
    assert shown.split(", ") == [
        "7000-7002/tcp",
        "7003/udp",
        "0.0.0.0:9100-9101->9100-9101/tcp",
        "0.0.0.0:9103->9103/tcp",
        "[::]:9100-9101->9100-9101/tcp",
        "127.0.0.1:8080->80/tcp",
        "127.0.0.1:8081->81/tcp",
        "0.0.0.0:9003->82/tcp",
    ]


def asked(*words: str) -> dict[str, Any]:
    return network_body(parse(NetworkCreateCommand, [*words, "web"]))


def test_a_network_by_name_alone_is_a_bridge_with_everything_chosen() -> None:
    made = asked()
    assert (made["Name"], made["Driver"], made["EnableIPv6"]) == ("web", "bridge", False)
    assert made["IPAM"] == {"Driver": "default", "Options": {}, "Config": []}
    assert "EnableIPv4" not in made
    assert asked("--ipv4=false", "--ipv6")["EnableIPv4"] is False


def test_addresses_go_to_the_subnet_they_are_in() -> None:
    words = ["--subnet", "10.5.0.0/16,fd00:5::/64", "--subnet", "10.6.0.0/24"]
    words += ["--gateway", "10.6.0.9", "--gateway", "fd00:5::9", "--ip-range", "10.5.1.0/24"]
    words += ["--aux-address", "printer=10.5.0.3", "--aux-address", "scanner=10.5.0.4"]
    assert asked(*words)["IPAM"]["Config"] == [
        {
            "Subnet": "10.5.0.0/16",
            "IPRange": "10.5.1.0/24",
            "AuxiliaryAddresses": {"printer": "10.5.0.3", "scanner": "10.5.0.4"},
        },
        {"Subnet": "fd00:5::/64", "Gateway": "fd00:5::9"},
        {"Subnet": "10.6.0.0/24", "Gateway": "10.6.0.9"},
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--gateway 10.7.0.1", "every ip-range or gateway must have a corresponding subnet"),
        ("--subnet 10.6.0.0/24 --gateway 10.7.0.1", "no matching subnet for gateway 10.7.0.1"),
        ("--subnet 10.6.0.0/24 --ip-range 10.7.0.0/28", "no matching subnet for range 10.7.0.0/28"),
        ("--subnet 10.6.0.0/24 --aux-address x=11.6.0.0", "for aux-address 11.6.0.0"),
        ("--subnet 10.6.0.0/24 --aux-address x", "invalid aux-address ''"),
        ("--subnet 10.6.0.0/24 --subnet 10.6.0.0/25", "multiple overlapping subnet configuration"),
        ("--subnet 10.6.0.0/24 --gateway 10.6.0.1 --gateway 10.6.0.2", "multiple gateways"),
        ("--subnet 10.6.0.0/33 --gateway 10.6.0.1", "invalid subnet 10.6.0.0/33: invalid CIDR"),
        ("--subnet fd00::/64 --gateway 10.6.0.1", "no matching subnet for gateway 10.6.0.1"),
        ("--label =x", "invalid value '=x' for --label"),
    ],
)
def test_addresses_that_fit_nowhere_are_named(words: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is compared below)
        asked(*words.split())
    assert sentence in str(caught.value)
