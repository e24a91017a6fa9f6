"""Networks and ports: from Docker's bodies to the engine's values, and back to Docker's shapes."""

from typing import Any

import msgspec
import pytest

from orlop.api.docker.parse_container import parse_create
from orlop.api.docker.parse_network import parse_endpoint, parse_network_create
from orlop.api.docker.render_network import (
    render_network,
    render_networks,
    render_ports,
    render_settings,
)
from orlop.api.docker.wire import Create, EndpointSettings, NetworkCreate, decode
from orlop.errors import InvalidArgumentError, OrlopError
from orlop.model.container import Container, ContainerOptions, Status
from orlop.model.network import (
    Bandwidth,
    Endpoint,
    EndpointOptions,
    Network,
    PortMapping,
    Subnet,
)

BRIDGE = Network(
    id="b" * 64, name="bridge", subnets=(Subnet(subnet="172.17.0.0/16", gateway="172.17.0.1"),)
)
NONE = Network(id="0" * 64, name="none", driver="null")
WEB = Network(
    id="e" * 64,
    name="web",
    ipv6=True,
    subnets=(
        Subnet(subnet="10.5.0.0/16", gateway="10.5.0.9", ip_range="10.5.1.0/24"),
        Subnet(subnet="fd00:5::/64", gateway="fd00:5::1", reserved={"x": "fd00:5::3"}),
    ),
    options={"com.docker.network.bridge.name": "br-web"},
    labels={"l": "1"},
    created_ns=1_700_000_000_000_000_000,
)
NETWORKS = {network.id: network for network in (BRIDGE, NONE, WEB)}


def parse(host: dict[str, Any], **more: Any) -> ContainerOptions:
    body = {"Image": "x", "HostConfig": host, **more}
    return parse_create(decode(msgspec.json.encode(body), Create))


def endpoint(**settings: Any) -> EndpointOptions:
    return parse_endpoint(decode(msgspec.json.encode(settings), EndpointSettings))


def test_ports_are_spelled_one_way() -> None:
    options = parse(
        {
            "PortBindings": {
                "80": [{"HostPort": "8080"}, {"HostIp": "::0001", "HostPort": "8000-8010"}],
                "80/tcp": [{"HostPort": "8080"}],
                "053/UDP": None,
            },
            "PublishAllPorts": True,
        },
        ExposedPorts={"80": {}, "80/tcp": {}, "7/sctp": {}},
    )
    assert options.port_bindings == {
        "80/tcp": (("", "8080"), ("::1", "8000-8010")),
        "53/udp": (),
    }
    assert options.exposed_ports == ("80/tcp", "7/sctp")
    assert options.publish_all


def test_what_is_asked_of_a_network_is_read() -> None:
    assert endpoint(
        IPAMConfig={
            "IPv4Address": "10.1.2.3",
            "IPv6Address": "FD00::0009",
            "LinkLocalIPs": ["fe80::9"],
        },
        Aliases=["a"],
        Links=["b", "c:d"],
        MacAddress="02-42-AC-11-00-09",
        DriverOpts={"k": "v"},
        GwPriority=3,
    ) == EndpointOptions(
        ipv4="10.1.2.3",
        ipv6="fd00::9",
        link_local=("fe80::9",),
        aliases=("a",),
        links=("b:b", "c:d"),
        mac="02:42:ac:11:00:09",
        driver_options={"k": "v"},
        gateway_priority=3,
    )
    assert parse_endpoint(None) == EndpointOptions()


def test_networks_of_a_container_are_by_name_and_the_first_has_its_links_and_mac() -> None:
    options = parse(
        {"NetworkMode": "web", "Links": ["db"]},
        MacAddress="02:42:ac:11:00:09",
        NetworkingConfig={"EndpointsConfig": {"other": {"Aliases": ["o"]}, "web": None}},
    )
    assert options.network == "web"
    assert options.mac_address == "02:42:ac:11:00:09"
    assert list(options.networks) == ["web", "other"]
    assert options.networks["web"] == EndpointOptions(links=("db:db",), mac="02:42:ac:11:00:09")
    assert options.networks["other"].aliases == ("o",)


def test_a_disabled_network_is_none_whatever_else_is_said() -> None:
    options = parse({"NetworkMode": "web"}, NetworkDisabled=True)
    assert (options.network, options.networks) == ("none", {})


def test_limits_come_from_our_field_or_from_kubernetes_annotations() -> None:
    notes = {
        "kubernetes.io/ingress-bandwidth": "10M",
        "kubernetes.io/egress-bandwidth": "1.5Gi",
    }
    assert parse({"Annotations": notes}).bandwidth == Bandwidth(
        ingress_bps=10_000_000, egress_bps=3 << 29
    )
    ours = {"IngressRate": 5, "IngressBurst": 7}
    assert parse({"Annotations": notes, "Bandwidth": ours}).bandwidth == Bandwidth(
        ingress_bps=5, ingress_burst_bits=7, egress_bps=3 << 29
    )


@pytest.mark.parametrize(
    ("host", "more", "sentence"),
    [
        ({"PortBindings": {"80": [{"HostPort": "x"}]}}, {}, 'invalid port specification: "x"'),
        ({"PortBindings": {"foo": None}}, {}, 'invalid port specification: "foo"'),
        ({"PortBindings": {"0/tcp": None}}, {}, 'invalid port specification: "0/tcp"'),
        ({"PortBindings": {"80/foo": None}}, {}, 'invalid port specification: "80/foo"'),
        ({"PortBindings": {"80": [{"HostPort": "99999"}]}}, {}, 'specification: "99999"'),
        ({"PortBindings": {"80": [{"HostPort": "9-8"}]}}, {}, 'specification: "9-8"'),
        ({"PortBindings": {"80": [{"HostIp": "foo"}]}}, {}, "invalid IP address: foo"),
        ({}, {"ExposedPorts": {"x": {}}}, 'invalid port specification: "x"'),
        ({}, {"MacAddress": "zz"}, "invalid MAC address zz"),
        ({}, {"MacAddress": "01:00:00:00:00:01"}, "no interface can have it"),
        ({"NetworkMode": "container:"}, {}, "invalid container format container:<name|id>"),
        ({"NetworkMode": "ns:relative"}, {}, "ns: needs the absolute path"),
        ({"Links": [":x"]}, {}, "bad format for links: :x"),
        ({"Annotations": {"kubernetes.io/ingress-bandwidth": "fast"}}, {}, "such as 10M"),
        ({"Bandwidth": {"EgressBurst": 1}}, {}, "egress bandwidth: a burst needs a rate"),
        ({"Bandwidth": {"EgressRate": -1}}, {}, "egress bandwidth: it cannot be below 0"),
        ({"NetworkMode": "host", "Links": ["a"]}, {}, "host type networking can't be used with"),
        (
            {"NetworkMode": "container:a", "PublishAllPorts": True},
            {},
            "port publishing and the container type network mode",
        ),
        (
            {"NetworkMode": "container:a"},
            {"ExposedPorts": {"80": {}}},
            "port exposing and the container type network mode",
        ),
        ({"NetworkMode": "container:a", "Dns": ["1.1.1.1"]}, {}, "dns and the network mode"),
        ({"NetworkMode": "container:a"}, {"Hostname": "h"}, "hostname and the network mode"),
        ({"NetworkMode": "container:a", "ExtraHosts": ["a:1.2.3.4"]}, {}, "host-to-IP mapping and"),
        ({"NetworkMode": "ns:/x"}, {"MacAddress": "02:42:ac:11:00:09"}, "mac-address and the"),
        ({"NetworkMode": "ns:/x", "PortBindings": {"80": None}}, {}, "ns type network mode"),
        (
            {"NetworkMode": "container:a"},
            {"NetworkingConfig": {"EndpointsConfig": {"web": {}}}},
            "conflicting options: networks and the network mode",
        ),
        (
            {"NetworkMode": "web"},
            {"NetworkingConfig": {"EndpointsConfig": {"web": {"MacAddress": "zz"}}}},
            "invalid config for network web: invalid MAC address zz",
        ),
        (
            {"NetworkMode": "web"},
            {
                "MacAddress": "02:42:ac:11:00:01",
                "NetworkingConfig": {
                    "EndpointsConfig": {"web": {"MacAddress": "02:42:ac:11:00:02"}}
                },
            },
            "the container-wide MAC address must match",
        ),
        (
            {"NetworkMode": "web"},
            {
                "NetworkingConfig": {
                    "EndpointsConfig": {"web": {"IPAMConfig": {"IPv4Address": "1.2"}}}
                }
            },
            "invalid config for network web: invalid IPv4 address: 1.2",
        ),
        (
            {},
            {
                "NetworkingConfig": {
                    "EndpointsConfig": {"w": {"IPAMConfig": {"IPv6Address": "1.2.3.4"}}}
                }
            },
            "invalid IPv6 address: 1.2.3.4",
        ),
    ],
)
def test_nonsense_is_refused_in_one_sentence(
    host: dict[str, Any], more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse(host, **more)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def created(**body: Any) -> Any:
    return parse_network_create(decode(msgspec.json.encode(body), NetworkCreate))


def test_a_network_is_read_with_its_addresses() -> None:
    request = created(
        Name="web",
        CheckDuplicate=True,
        Driver="macvlan",
        Internal=True,
        Attachable=True,
        EnableIPv6=True,
        EnableIPv4=False,
        IPAM={
            "Driver": "default",
            "Config": [
                {
                    "Subnet": "10.5.0.0/16",
                    "IPRange": "10.5.1.0/24",
                    "Gateway": "10.5.0.9",
                    "AuxiliaryAddresses": {"x": "10.5.0.3"},
                },
                {},
            ],
        },
        Options={"parent": "eth0"},
        Labels={"l": "1"},
    )
    assert (request.name, request.driver, request.internal) == ("web", "macvlan", True)
    assert (request.ipv4, request.ipv6, request.attachable) == (False, True, True)
    assert request.subnets == (
        Subnet(
            subnet="10.5.0.0/16",
            ip_range="10.5.1.0/24",
            gateway="10.5.0.9",
            reserved={"x": "10.5.0.3"},
        ),
    )
    assert (request.options, request.labels) == ({"parent": "eth0"}, {"l": "1"})
    assert created(Name="web").driver == "bridge"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "invalid name"),
        ({"Name": " "}, "invalid name"),
        ({"Name": "x", "Scope": "swarm"}, "cannot create a swarm scoped network"),
        ({"Name": "x", "Ingress": True}, "cannot create a swarm scoped network"),
        ({"Name": "x", "ConfigOnly": True}, "configuration-only networks are not supported"),
        ({"Name": "x", "ConfigFrom": {"Network": "y"}}, "configuration-only networks"),
        ({"Name": "x", "IPAM": {"Driver": "dhcp"}}, 'plugin "dhcp" not found'),
        ({"Name": "x", "IPAM": {"Options": {"a": "b"}}}, "options of the default IPAM driver"),
    ],
)
def test_a_network_that_cannot_be_is_refused(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OrlopError) as caught:
        created(**body)
    assert sentence in str(caught.value)


def container(*, running: bool = True, mode: str = "web", **more: Any) -> Container:
    options = ContainerOptions(
        network=mode,
        networks={
            "web": EndpointOptions(ipv4="10.5.1.9", aliases=("q",), mac="02:42:0a:05:01:09"),
            "bridge": EndpointOptions(),
        },
        exposed_ports=("7000/tcp", "80/tcp"),
    )
    ports = (
        PortMapping(protocol="tcp", container_port=80, host_port=8080),
        PortMapping(protocol="udp", container_port=53, host_port=53, host_ip="127.0.0.1"),
    )
    given = {"options": options, "image": "sha256:0", "image_name": "x", "created_ns": 1, **more}
    return Container(
        id="c" * 64,
        name="cc",
        status=Status.RUNNING if running else Status.EXITED,
        pid=4711,
        endpoints=_endpoints() if running else (),
        ports=ports if running else (),
        **given,
    )


def _endpoints() -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            id="1" * 64,
            network=WEB.id,
            container="c" * 64,
            interface="eth0",
            mac="02:42:0a:05:01:09",
            addresses=("10.5.1.9/16", "fd00:5::99/64", "169.254.1.1/16"),
        ),
        Endpoint(
            id="2" * 64,
            network=BRIDGE.id,
            container="c" * 64,
            interface="eth1",
            mac="02:42:ac:11:00:02",
            addresses=("172.17.0.2/16",),
        ),
    )


def test_a_running_container_shows_what_it_has_on_each_network() -> None:
    shown = render_networks(container(), NETWORKS)
    assert list(shown) == ["web", "bridge"]
    assert shown["web"] == {
        "IPAMConfig": {"IPv4Address": "10.5.1.9"},
        "Links": None,
        "Aliases": ("q",),
        "NetworkID": WEB.id,
        "DriverOpts": None,
        "GwPriority": 0,
        "DNSNames": ["cc", "q", "c" * 12],
        "EndpointID": "1" * 64,
        "Gateway": "10.5.0.9",
        "IPAddress": "10.5.1.9",
        "IPPrefixLen": 16,
        "IPv6Gateway": "fd00:5::1",
        "GlobalIPv6Address": "fd00:5::99",
        "GlobalIPv6PrefixLen": 64,
        "MacAddress": "02:42:0a:05:01:09",
    }
    assert shown["bridge"]["DNSNames"] is None
    assert shown["bridge"]["IPv6Gateway"] == ""


def test_settings_have_the_default_network_at_the_top_and_a_namespace_to_open() -> None:
    shown = render_settings(container(), NETWORKS)
    assert (shown["IPAddress"], shown["Gateway"]) == ("172.17.0.2", "172.17.0.1")
    assert shown["SandboxKey"] == "/proc/4711/ns/net"
    assert shown["Ports"] == {
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "8080"},
            {"HostIp": "::", "HostPort": "8080"},
        ],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        "7000/tcp": None,
    }


def test_a_stopped_container_shows_what_it_asked_for_and_has_nothing() -> None:
    stopped = container(running=False)
    shown = render_settings(stopped, NETWORKS)
    assert (shown["Ports"], shown["SandboxKey"], shown["IPAddress"]) == ({}, "", "")
    web = shown["Networks"]["web"]
    assert (web["IPAddress"], web["EndpointID"], web["NetworkID"]) == ("", "", WEB.id)
    assert (web["IPAMConfig"], web["MacAddress"]) == (
        {"IPv4Address": "10.5.1.9"},
        "02:42:0a:05:01:09",
    )
    assert render_ports(stopped) == []


@pytest.mark.parametrize(
    ("mode", "names"),
    [("none", ["none"]), ("container:x", []), ("ns:/x", []), ("host", ["host"]), ("left", [])],
)
def test_modes_are_shown_as_networks_where_they_are_some(mode: str, names: list[str]) -> None:
    options = ContainerOptions(network=mode)
    assert list(render_networks(container(running=False, options=options), NETWORKS)) == names


def test_ports_of_the_list_are_one_for_each_address() -> None:
    assert render_ports(container()) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
        {"PrivatePort": 7000, "Type": "tcp"},
    ]


def test_a_network_is_shown_with_who_is_on_it() -> None:
    there = container()
    shown = render_network(WEB, [(there, there.endpoints[0])])
    assert shown["IPAM"] == {
        "Driver": "default",
        "Options": None,
        "Config": [
            {"Subnet": "10.5.0.0/16", "IPRange": "10.5.1.0/24", "Gateway": "10.5.0.9"},
            {
                "Subnet": "fd00:5::/64",
                "Gateway": "fd00:5::1",
                "AuxiliaryAddresses": {"x": "fd00:5::3"},
            },
        ],
    }
    assert shown["Containers"] == {
        "c" * 64: {
            "Name": "cc",
            "EndpointID": "1" * 64,
            "MacAddress": "02:42:0a:05:01:09",
            "IPv4Address": "10.5.1.9/16",
            "IPv6Address": "fd00:5::99/64",
        }
    }
    assert (shown["Created"], shown["EnableIPv6"]) == ("2023-11-14T22:13:20Z", True)
    assert render_network(NONE)["IPAM"]["Config"] is None
