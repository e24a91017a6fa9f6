"""Networks by the command line, with packets through them: Orlop's engine, and Docker's."""

import contextlib
import json
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.cli.conftest import IMAGE, CommandLine

ANSWER = "while true; do echo hello | nc -l -p 80; done"
SUBNET = ("--subnet", "10.71.0.0/16", "--ip-range", "10.71.9.0/24", "--gateway", "10.71.0.7")


def is_own(cli: CommandLine) -> bool:
    """Whether it is Orlop's engine that answers."""
    return "ORLOP_ROOT" in cli.environment


def fetch(address: tuple[str, int], timeout_s: float = 10) -> bytes:
    """Return what a server says, which may not have begun to listen."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection(address, 2) as client:
            if said := client.recv(64):
                return said
        assert time.monotonic() < deadline, f"no answer from {address}"
        time.sleep(0.05)


def field(cli: CommandLine, name: str, template: str) -> str:
    return cli.out("inspect", "-f", template, name)


def has(cli: CommandLine, container: str, network: str) -> dict[str, object]:
    """Return what a container has on a network."""
    found = json.loads(field(cli, container, "{{json .NetworkSettings.Networks}}"))
    there: dict[str, object] = found[network]
    return there


@pytest.fixture
def web(cli: CommandLine) -> str:
    """A network of one's own."""
    cli.out("network", "create", "web")
    return "web"


def test_networks_are_made_listed_shown_and_removed(cli: CommandLine) -> None:
    made = cli.out("network", "create", "--label", "tier=front", "web")
    assert re.fullmatch("[0-9a-f]{64}", made)
    heading, *rows = cli.out("network", "ls").splitlines()
    assert heading.split("   ")[0] == "NETWORK ID"
    assert heading.split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [row.split()[1:] for row in rows] == [
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
        ["web", "bridge", "local"],
    ]
    assert cli.out("network", "ls", "-q", "--filter", "label=tier") == made[:12]
    assert cli.out("network", "ls", "-q", "--no-trunc", "--filter", "type=custom") == made
    assert cli.out("network", "ls", "--filter", "name=eb", "--format", "{{.Name}}") == "web"
    listed = json.loads(cli.out("network", "ls", "--filter", "name=web", "--format", "json"))
    assert (listed["Labels"], listed["IPv6"], listed["Internal"]) == (
        "tier=front",
        "false",
        "false",
    )
    assert cli.out("network", "inspect", "-f", "{{.Name}} {{.Driver}}", made[:12]) == "web bridge"
    assert cli.out("inspect", "--type", "network", "-f", "{{.Id}}", "web") == made
    assert cli.out("network", "rm", "web") == "web"
    done = cli.run("network", "rm", "web")
    assert (done.returncode, b"network web not found" in done.stderr) == (1, True)
    assert cli.out("network", "rm", "-f", "web") == ""
    done = cli.run("network", "inspect", "web", "bridge")
    assert (done.returncode, len(json.loads(done.stdout))) == (1, 1)


def test_addresses_are_as_asked_for(cli: CommandLine) -> None:
    words = [*SUBNET, "--aux-address", "x=10.71.9.1", "--ipv6", "--subnet", "fd71::/64"]
    cli.out("network", "create", *words, "--internal", "--attachable", "own")
    (shown,) = json.loads(cli.out("network", "inspect", "own"))
    ipv4, ipv6 = shown["IPAM"]["Config"]
    assert ipv4 == {
        "Subnet": "10.71.0.0/16",
        "IPRange": "10.71.9.0/24",
        "Gateway": "10.71.0.7",
        "AuxiliaryAddresses": {"x": "10.71.9.1"},
    }
    assert ipv6["Subnet"] == "fd71::/64"
    assert (shown["Internal"], shown["Attachable"], shown["EnableIPv6"]) == (True, True, True)
    options = ["--ip", "10.71.9.77", "--ip6", "fd71::77", "--mac-address", "02:42:0a:47:09:4d"]
    cli.out("run", "-d", "--name", "fixed", "--network", "own", *options, IMAGE, "sleep", "100")
    inside = cli.out("exec", "fixed", "ip", "addr", "show", "eth0")
    assert "inet 10.71.9.77/16" in inside
    assert "inet6 fd71::77/64" in inside
    assert "02:42:0a:47:09:4d" in inside
    there = has(cli, "fixed", "own")
    assert (there["IPAddress"], there["IPPrefixLen"]) == ("10.71.9.77", 16)
    assert (there["GlobalIPv6Address"], there["GlobalIPv6PrefixLen"]) == ("fd71::77", 64)
    assert there["MacAddress"] == "02:42:0a:47:09:4d"
    assert there["IPAMConfig"] == {"IPv4Address": "10.71.9.77", "IPv6Address": "fd71::77"}
    (shown,) = json.loads(cli.out("network", "inspect", "own"))
    (member,) = shown["Containers"].values()
    assert (member["Name"], member["IPv4Address"]) == ("fixed", "10.71.9.77/16")
    assert cli.run("exec", "fixed", "ping", "-c1", "-W1", "10.71.0.7").returncode == 0


def test_containers_on_a_network_know_each_other_by_name(cli: CommandLine, web: str) -> None:
    words = ["--network", web, "--network-alias", "store", IMAGE, "sh", "-c", ANSWER]
    cli.out("run", "-d", "--name", "db", *words)
    for name in ("db", "store"):
        assert cli.out("run", "--rm", "--network", web, IMAGE, "ping", "-c1", "-W2", name)
    there = has(cli, "db", web)
    assert there["Aliases"] == ["store"]
    names = there["DNSNames"]
    assert isinstance(names, list)
    assert {"db", "store"} <= set(names)
    assert cli.run("run", "--rm", IMAGE, "ping", "-c1", "-W1", "db").returncode != 0


def test_network_that_a_container_is_on_stays(cli: CommandLine, web: str) -> None:
    cli.out("run", "-d", "--name", "user", "--network", web, IMAGE, "sleep", "100")
    done = cli.run("network", "rm", web)
    assert (done.returncode, b"has active endpoints" in done.stderr) == (1, True)
    cli.out("network", "create", "idle")
    assert cli.out("network", "prune", "-f").splitlines() == ["Deleted Networks:", "idle"]
    if is_own(cli):  # Docker's filter takes every network of the user's own for unused
        assert cli.out("network", "ls", "--filter", "dangling=true", "-q") == ""
    cli.out("rm", "-f", "user")
    assert "web" in cli.out("network", "prune", "-f")


def test_running_container_is_put_on_a_network_and_taken_off(cli: CommandLine) -> None:
    cli.out("network", "create", *SUBNET, "late")
    cli.out("run", "-d", "--name", "one", IMAGE, "sleep", "100")
    options = ["--ip", "10.71.9.5", "--alias", "uno", "--driver-opt", "a=b"]
    cli.out("network", "connect", *options, "late", "one")
    assert "inet 10.71.9.5/16" in cli.out("exec", "one", "ip", "addr")
    assert cli.out("run", "--rm", "--network", "late", IMAGE, "ping", "-c1", "-W2", "uno")
    there = has(cli, "one", "late")
    assert (there["Aliases"], there["DriverOpts"]) == (["uno"], {"a": "b"})
    done = cli.run("network", "connect", "late", "one")
    assert b"already exists in network late" in done.stderr
    cli.out("restart", "-t", "0", "one")
    assert "inet 10.71.9.5/16" in cli.out("exec", "one", "ip", "addr")
    cli.out("network", "disconnect", "late", "one")
    assert "10.71.9.5" not in cli.out("exec", "one", "ip", "addr")
    done = cli.run("network", "disconnect", "late", "one")
    assert b"is not connected to" in done.stderr
    assert list(json.loads(field(cli, "one", "{{json .NetworkSettings.Networks}}"))) == ["bridge"]


def test_container_can_leave_its_first_network(cli: CommandLine, web: str) -> None:
    cli.out("run", "-d", "--name", "nomad", "--network", web, IMAGE, "sleep", "100")
    cli.out("network", "connect", "bridge", "nomad")
    cli.out("network", "disconnect", web, "nomad")
    assert list(json.loads(field(cli, "nomad", "{{json .NetworkSettings.Networks}}"))) == ["bridge"]
    if is_own(cli):  # Docker's container does not start without the network it was made with
        cli.out("network", "rm", web)
    cli.out("restart", "-t", "0", "nomad")
    assert "inet " in cli.out("exec", "nomad", "ip", "addr", "show", "eth0")


def test_ports_of_the_hosts_network_are_not_published(cli: CommandLine) -> None:
    done = cli.run("run", "--rm", "--network", "host", "-p", "80:80", IMAGE, "true")
    assert done.returncode == 0
    assert done.stderr == b"WARNING: Published ports are discarded when using host network mode\n"


def test_several_networks_are_joined_by_one_command(cli: CommandLine, web: str) -> None:
    cli.out("network", "create", *SUBNET, "own")
    full = "name=own,ip=10.71.9.8,alias=eight,mac-address=02:42:00:00:00:08,driver-opt=k=v"
    words = ["--network", web, "--network", full, "--network-alias", "w"]
    cli.out("run", "-d", "--name", "both", *words, IMAGE, "sleep", "100")
    assert field(cli, "both", "{{.HostConfig.NetworkMode}}") == web
    assert has(cli, "both", web)["Aliases"] == ["w"]
    own = has(cli, "both", "own")
    assert (own["IPAddress"], own["MacAddress"]) == ("10.71.9.8", "02:42:00:00:00:08")
    assert own["DriverOpts"] == {"k": "v"}
    inside = cli.out("exec", "both", "ip", "-o", "link")
    assert {"eth0", "eth1"} <= set(re.findall(r"eth\d", inside))
    assert cli.out("ps", "--filter", "name=both", "--format", "{{.Networks}}") in (
        "web,own",
        "own,web",
    )


def test_port_is_published_and_listed(cli: CommandLine) -> None:
    words = [
        "-p",
        "127.0.0.1:18080:80",
        "-p",
        "18081:80",
        "-p",
        "5353/udp",
        "--expose",
        "7000-7002",
    ]
    cli.out("run", "-d", "--name", "server", *words, IMAGE, "sh", "-c", ANSWER)
    assert fetch(("127.0.0.1", 18080)) == b"hello\n"
    assert fetch(("127.0.0.1", 18081)) == b"hello\n"
    lines = cli.out("port", "server").splitlines()
    assert {"80/tcp -> 127.0.0.1:18080", "80/tcp -> 0.0.0.0:18081"} <= set(lines)
    assert "80/tcp -> [::]:18081" in lines
    (chosen,) = (line for line in lines if line.startswith("5353/udp -> 0.0.0.0:"))
    assert 0 < int(chosen.rpartition(":")[2]) < 65536
    assert "127.0.0.1:18080" in cli.out("port", "server", "80").splitlines()
    assert cli.out("port", "server", "80/tcp") == cli.out("port", "server", "80")
    done = cli.run("port", "server", "81")
    assert (done.returncode, b"no public port '81' published for" in done.stderr) == (1, True)
    shown = cli.out("ps", "--filter", "name=server", "--format", "{{.Ports}}").split(", ")
    assert shown[0] == "7000-7002/tcp"
    assert {"127.0.0.1:18080->80/tcp", "0.0.0.0:18081->80/tcp", "[::]:18081->80/tcp"} <= set(shown)
    bindings = json.loads(field(cli, "server", "{{json .HostConfig.PortBindings}}"))
    assert {place["HostPort"] for place in bindings["80/tcp"]} == {"18080", "18081"}
    cli.out("stop", "-t", "0", "server")
    assert cli.out("port", "server") == ""
    assert cli.out("ps", "-a", "--filter", "name=server", "--format", "{{.Ports}}") == ""


def test_ranges_are_shown_as_ranges(cli: CommandLine) -> None:
    words = ["-p", "19100-19103:19100-19103", "-p", "19200-19201:90-91"]
    cli.out("run", "-d", "--name", "many", *words, IMAGE, "sleep", "100")
    shown = cli.out("ps", "--filter", "name=many", "--format", "{{.Ports}}").split(", ")
    assert "0.0.0.0:19100-19103->19100-19103/tcp" in shown
    assert {"0.0.0.0:19200->90/tcp", "0.0.0.0:19201->91/tcp"} <= set(shown)


def test_one_of_a_range_is_chosen(cli: CommandLine) -> None:
    for name in ("first", "second"):
        cli.out("run", "-d", "--name", name, "-p", "19300-19301:80", IMAGE, "sleep", "100")
    chosen = {cli.out("port", name, "80").splitlines()[0] for name in ("first", "second")}
    assert chosen == {"0.0.0.0:19300", "0.0.0.0:19301"}
    done = cli.run("run", "-d", "-p", "19300-19301:80", IMAGE, "sleep", "100")
    assert (done.returncode, b"allocated" in done.stderr) == (125, True)


def test_all_exposed_ports_are_published(cli: CommandLine) -> None:
    words = ["-P", "--expose", "90-91", "--expose", "5/udp"]
    cli.out("run", "-d", "--name", "open", *words, IMAGE, "sleep", "100")
    ports = json.loads(field(cli, "open", "{{json .NetworkSettings.Ports}}"))
    assert sorted(ports) == ["5/udp", "90/tcp", "91/tcp"]
    assert all(places and int(places[0]["HostPort"]) for places in ports.values())
    assert field(cli, "open", "{{.HostConfig.PublishAllPorts}}") == "true"


def test_taken_port_is_told_and_nothing_is_left_of_the_start(cli: CommandLine) -> None:
    cli.out("run", "-d", "--name", "holder", "-p", "19400:80", IMAGE, "sleep", "100")
    done = cli.run("run", "-d", "--name", "late", "-p", "19400:80", IMAGE, "sleep", "100")
    assert done.returncode == 125
    assert b"port is already allocated" in done.stderr
    assert field(cli, "late", "{{.State.Running}} {{.NetworkSettings.IPAddress}}") == "false "
    cli.out("rm", "-f", "holder")
    cli.out("start", "late")
    assert "0.0.0.0:19400" in cli.out("port", "late", "80")


def test_modes_show_what_they_share(cli: CommandLine, web: str) -> None:
    cli.out("run", "-d", "--name", "first", "--network", web, IMAGE, "sleep", "100")
    address = has(cli, "first", web)["IPAddress"]
    shared = cli.out("run", "--rm", "--network", "container:first", IMAGE, "ip", "addr")
    assert f"inet {address}/" in shared
    alone = cli.out("run", "--rm", "--network", "none", IMAGE, "ip", "-o", "link")
    assert len([line for line in alone.splitlines() if "LOOPBACK" not in line]) == 0
    cli.out("run", "-d", "--name", "onhost", "--network", "host", IMAGE, "sleep", "100")
    here = Path("/proc/thread-self/ns/net").readlink()
    pid = field(cli, "onhost", "{{.State.Pid}}")
    assert Path(f"/proc/{pid}/ns/net").readlink() == here
    assert list(json.loads(field(cli, "onhost", "{{json .NetworkSettings.Networks}}"))) == ["host"]


def test_hosts_and_name_servers_are_written(cli: CommandLine) -> None:
    words = ["--add-host", "a:1.2.3.4", "--add-host", "b=::1", "--add-host", "gw:host-gateway"]
    hosts = cli.out("run", "--rm", *words, IMAGE, "cat", "/etc/hosts").splitlines()
    assert {"1.2.3.4\ta", "::1\tb"} <= set(hosts)
    gateway = json.loads(cli.out("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Gateway"]
    assert f"{gateway}\tgw" in hosts
    words = ["--dns", "192.0.2.1", "--dns-search", "a.b", "--dns-option", "ndots:2"]
    written = cli.out("run", "--rm", *words, IMAGE, "cat", "/etc/resolv.conf")
    assert "nameserver 192.0.2.1" in written
    assert "search a.b" in written
    assert "options ndots:2" in written


def test_what_happens_to_networks_is_told(cli: CommandLine) -> None:
    began = time.time()
    cli.out("network", "create", "told")
    cli.out("run", "-d", "--name", "who", "--network", "told", IMAGE, "sleep", "100")
    cli.out("rm", "-f", "who")
    cli.out("network", "rm", "told")
    words = ["--since", f"{began:.6f}", "--until", f"{time.time() + 1:.6f}"]
    form = '{{.Action}} {{index .Actor.Attributes "name"}} {{index .Actor.Attributes "type"}}'
    told = cli.out("events", *words, "--filter", "type=network", "--format", form).splitlines()
    steps = ("create", "connect", "disconnect", "destroy")
    assert told == [f"{step} told bridge" for step in steps]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("network create bridge", "operation is not permitted on predefined bridge network"),
        ("network create web", "network with name web already exists"),
        ("network create --subnet 10.72.0.0/24 new", "Pool overlaps with other one on this"),
        ("network create --subnet 10.73.0.1/24 new", "it should be 10.73.0.0/24"),
        ("network create --subnet 10.73.0.0/24 --gateway 10.74.0.1 new", "no matching subnet"),
        ("network create -d nosuch new", "nosuch"),
        ("network create -o com.docker.network.driver.mtu=x new", "com.docker.network.driver.mtu"),
        ("network rm bridge", "bridge is a pre-defined network and cannot be removed"),
        ("network connect nosuch stopped", "network nosuch not found"),
        ("network connect web nosuch", "nosuch"),
        ("network connect host stopped", "host network"),
        ("network connect --ip 10.99.0.1 own stopped", "10.99.0.1"),
        ("network connect --ip 10.72.0.300 own stopped", "invalid IPv4 address: 10.72.0.300"),
        ("network connect --ip 10.1.1.1 web stopped", "configured subnet"),
        ("network disconnect web stopped", "is not connected to"),
        ("network ls --filter foo=1", "invalid filter 'foo'"),
        ("network prune -f --filter foo=1", "invalid filter 'foo'"),
        ("run --network nosuch {image}", "network nosuch not found"),
        ("run --network container:nosuch {image}", "nosuch"),
        ("run --network web --ip 1.2.3.4 {image}", "configured subnet"),
        ("run --ip 1.2.3.4 {image}", "user specified IP address is supported"),
        ("run --network own --ip 10.72.0.1 {image}", "address already in use"),
        ("run --network own --network own {image}", 'network "own" is specified multiple times'),
        ("run --network container:stopped -p 80:80 {image}", "port publishing and the container"),
        ("run --network container:stopped --hostname h {image}", "hostname and the network mode"),
        ("run --mac-address zz {image}", "zz is not a valid mac address"),
        ("run -p 80:foo {image}", "invalid containerPort: foo"),
        ("run -p 1.2.3.4.5:80:80 {image}", "invalid IP address: 1.2.3.4.5"),
        ("run --link nosuch {image}", "could not get container for nosuch"),
        ("run --add-host nope {image}", 'bad format for add-host: "nope"'),
    ],
)
def test_mistake_about_networks_is_one_sentence(
    cli: CommandLine, words: str, sentence: str, web: str
) -> None:
    if not is_own(cli) and words == "network connect nosuch stopped":
        pytest.skip("Docker looks for the network when the container starts")
    cli.out("network", "create", "--subnet", "10.72.0.0/16", "own")
    cli.out("create", "--name", "stopped", IMAGE, "sleep", "100")
    done = cli.run(*words.format(image=IMAGE).split())
    said = done.stderr.decode()
    assert done.returncode in (1, 125)
    assert sentence.lower() in said.lower()
    assert "Traceback" not in said
    assert "internal error" not in said
    if is_own(cli):
        assert len(said.splitlines()) == 1
        assert said.startswith("orlop: ")


def test_namespace_by_path_is_joined(cli: CommandLine) -> None:
    if not is_own(cli):
        pytest.skip("Docker has no such mode")
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep 100"])
    try:
        path = f"/proc/{holder.pid}/ns/net"
        deadline = time.monotonic() + 10
        while Path(path).readlink() == Path("/proc/self/ns/net").readlink():
            assert time.monotonic() < deadline
        cli.out("run", "-d", "--name", "guest", "--network", f"ns:{path}", IMAGE, "sleep", "100")
        pid = field(cli, "guest", "{{.State.Pid}}")
        assert Path(f"/proc/{pid}/ns/net").readlink() == Path(path).readlink()
        done = cli.run("run", "--network", "ns:/no/such", IMAGE, "true")
        assert (done.returncode, b"/no/such" in done.stderr) == (125, True)
    finally:
        holder.kill()
        holder.wait()


def test_system_prune_takes_unused_networks(cli: CommandLine, web: str) -> None:
    assert "Deleted Networks:\nweb\n" in cli.out("system", "prune", "-f") + "\n"
    assert cli.run("network", "inspect", web).returncode == 1


def test_bandwidth_is_limited_in_both_directions(cli: CommandLine) -> None:
    if not is_own(cli):
        pytest.skip("Docker has no such option")
    limits = ["--bandwidth", "in=8mbit,out=16mbit"]
    cli.out("run", "-d", "--name", "slow", *limits, IMAGE, "sleep", "100")
    queues = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True)
    assert {"rate 8Mbit", "rate 16Mbit"} <= set(re.findall(r"rate \d+Mbit", queues.stdout))
    shown = json.loads(field(cli, "slow", "{{json .HostConfig.Bandwidth}}"))
    assert shown == {"IngressRate": 8_000_000, "EgressRate": 16_000_000}
    cli.out("rm", "-f", "slow")
    deadline = time.monotonic() + 10
    while (
        "rate 8Mbit"
        in subprocess.run(
            ["tc", "qdisc", "show"], capture_output=True, text=True, check=True
        ).stdout
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)  # the kernel takes namespaces, and what was in them, in its own time


def test_links_are_names_in_the_hosts_file(cli: CommandLine) -> None:
    cli.out("run", "-d", "--name", "db", IMAGE, "sleep", "100")
    pinged = cli.out("run", "--rm", "--link", "db:store", IMAGE, "ping", "-c1", "-W2", "store")
    assert field(cli, "db", "{{.NetworkSettings.IPAddress}}") in pinged
    cli.out("create", "--name", "linked", "--link", "db:store", IMAGE)
    assert field(cli, "linked", "{{json .HostConfig.Links}}") == '["/db:/linked/store"]'


def test_containers_are_listed_by_network(cli: CommandLine, web: str) -> None:
    cli.out("run", "-d", "--name", "in", "--network", web, IMAGE, "sleep", "100")
    cli.out("run", "-d", "--name", "out", IMAGE, "sleep", "100")
    form = ["--format", "{{.Names}}"]
    identifier = cli.out("network", "inspect", "-f", "{{.Id}}", web)
    for ref in (web, identifier):
        assert cli.out("ps", "--filter", f"network={ref}", *form) == "in"
    assert cli.out("ps", "--filter", "network=bridge", *form) == "out"
    cli.out("network", "connect", web, "out")
    assert set(cli.out("ps", "--filter", f"network={web}", *form).split()) == {"in", "out"}
