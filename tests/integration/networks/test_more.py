"""What else a container's network does: user namespaces, ports, names, limits, figures."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.engine.identity import label as label_of
from orlop.engine.requests import NetworkRequest
from orlop.model.container import RestartPolicy
from orlop.model.network import Bandwidth, EndpointOptions, Network
from orlop.network.bridge_device import name_of
from tests.integration.engine.harness import (
    opened,
    output,
    run,
    settings,
    shell,
    until,
    with_engine,
)
from tests.integration.networks.scenes import (
    address,
    ask,
    client,
    default_routes,
    interfaces,
    machine,
    made,
    serve,
)


async def _told(engine: Engine, *hosts: str, network: str) -> list[str]:
    container_id = await run(engine, client(*hosts, network=network))
    return (await output(engine, container_id)).splitlines()


def test_a_user_namespace_s_container_is_on_networks_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = ({"containerID": 0, "hostID": 200000, "size": 65536},)
    for module in ("bundle", "attachments"):
        package = "containers" if module == "bundle" else "networks"
        name = f"orlop.engine.{package}.{module}.mappings"
        monkeypatch.setattr(name, lambda userns: (mapping, mapping) if userns else ((), ()))

    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        box = await serve(engine, "box", "a", userns="auto")
        assert ask(address(box)) == ["box to ::ffff:10.1.0.1"] * 2
        assert interfaces(box.pid)["eth0"][0] == "10.1.0.2/24"
        await made(engine, "b", "10.2.0.0/24")
        await engine.networks.connect("b", "box", EndpointOptions())
        assert ask("10.2.0.2") == ["box to ::ffff:10.2.0.1"] * 2
        inside = await run(
            engine,
            shell(
                "ls /sys/class/net; cat /proc/self/uid_map; ip link set eth0 mtu 1400 && echo may",
                network="a",
                userns="auto",
                cap_add=("NET_ADMIN",),
            ),
        )
        said = (await output(engine, inside)).split()
        assert said == ["eth0", "lo", "0", "200000", "65536", "may"]

    with_engine(tmp_path, work)


def test_names_find_each_other_on_a_network_that_a_user_made(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        wanted = {"a": EndpointOptions(aliases=("www",))}
        await serve(engine, "box", "a", networks=wanted)
        assert await _told(engine, "box", "www", network="a") == ["box to ::ffff:10.1.0.3"] * 4
        await engine.containers.rename("box", "other")
        assert await _told(engine, "other", network="a") == ["box to ::ffff:10.1.0.3"] * 2
        hosts = await run(engine, shell("cat /etc/hosts", network="a", hostname="me"))
        assert "10.1.0.3\tme\n" in await output(engine, hosts)

    with_engine(tmp_path, work)


def test_a_published_port_leads_to_the_container_until_it_ends(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ports = {"7000/tcp": (("127.0.0.1", "7000"),), "7000/udp": (("", "7000"),)}
        box = await serve(engine, "box", "bridge", port_bindings=ports)
        assert [(one.protocol, one.host_port) for one in box.ports] == [
            ("tcp", 7000),
            ("udp", 7000),
        ]
        assert [said.partition(" to ")[0] for said in ask("127.0.0.1")] == ["box"] * 2
        await engine.containers.restart("box", timeout_s=0)
        box = engine.containers.get("box")
        await until(lambda: ask("127.0.0.1")[0].startswith("box to "))
        await engine.containers.stop("box", timeout_s=0)
        assert all("refused" in said.lower() for said in ask("127.0.0.1"))
        assert engine.containers.get("box").ports == ()
        wanted = {"80/tcp": (("", "8000-8001"),)}
        for port in (8000, 8001):
            options = shell("exec sleep 60", network="bridge", port_bindings=wanted)
            created = await engine.containers.create(options)
            await engine.containers.start(created.id)
            assert [one.host_port for one in engine.containers.get(created.id).ports] == [port]

    with_engine(tmp_path, work)


def test_exposed_ports_are_all_published_when_asked(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        box = await serve(
            engine, "box", "bridge", exposed_ports=("7000/tcp", "9/udp"), publish_all=True
        )
        assert [(p.protocol, p.container_port) for p in box.ports] == [("tcp", 7000), ("udp", 9)]
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert all(port.host_port >= low for port in box.ports)

    with_engine(tmp_path, work)


def _leads(name: str) -> bool:
    return ask("10.1.0.2")[0].startswith(f"{name} to ")


def test_a_bridge_that_somebody_removed_is_made_again_with_all_on_it(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        network = await made(engine, "a", "10.1.0.0/24")
        await serve(engine, "box", "a")
        subprocess.run(["ip", "link", "delete", name_of(network)], check=True)
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(_leads, "box"):
                await asyncio.sleep(0.05)
        await run(engine, shell("true", network="a"))
        assert await _told(engine, "10.1.0.2", network="a") == ["box to ::ffff:10.1.0.3"] * 2

    with_engine(tmp_path, work)


def test_rules_that_somebody_flushed_come_back(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ports = {"7000/tcp": (("", "17000"),)}
        await serve(engine, "box", "bridge", port_bindings=ports)

        def rules() -> str:
            return subprocess.run(
                ["nft", "list", "ruleset"], capture_output=True, text=True, check=True
            ).stdout

        assert "17000" in rules()
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        await until(lambda: "17000" in rules())

    with_engine(tmp_path, work)


def test_the_default_network_moves_where_somebody_else_has_its_subnet(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        assert engine.networks.find("bridge").subnets[0].subnet == "172.17.0.0/16"
        subprocess.run(["ip", "link", "add", "other", "up", "type", "bridge"], check=True)
        subprocess.run(["ip", "address", "add", "172.17.5.1/24", "dev", "other"], check=True)
        try:
            box = await serve(engine, "box", "bridge")
            assert interfaces(box.pid) == {"eth0": ["172.18.0.2/16"]}
            assert engine.networks.find("bridge").subnets[0].gateway == "172.18.0.1"
            second = await made(engine, "second")
            assert second.subnets[0].subnet == "172.19.0.0/16"
        finally:
            subprocess.run(["ip", "link", "delete", "other"], check=True)

    with_engine(tmp_path, work)


def test_what_nobody_speaks_of_goes_when_an_engine_begins(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as engine:
            network = await made(engine, "a", "10.1.0.0/24")
            await serve(engine, "box", "a")
            label = label_of(settings(tmp_path).root)
        name = "ve0123456789ab"
        for command in (
            ["ip", "link", "add", name, "type", "veth", "peer", "name", "stray"],
            ["ip", "link", "set", name, "alias", f"orlop:{label}:{'0' * 64}"],
        ):
            subprocess.run(command, check=True)
        (tmp_path / "run" / "network").touch()
        async with opened(tmp_path) as engine:
            assert engine.networks.find("a") == network
        assert subprocess.run(["ip", "link", "show", name], check=False).returncode == 1

    asyncio.run(work())


def test_a_restart_policy_brings_the_network_back(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        policy = RestartPolicy(name="always")
        await serve(engine, "box", "a", restart=policy)
        for turn in (1, 2):
            os.kill(engine.containers.get("box").pid, signal.SIGKILL)
            await until(lambda: engine.containers.get("box").restart_count == turn)  # noqa: B023
            await until(lambda: engine.containers.get("box").running)
            box = engine.containers.get("box")
            assert address(box) == "10.1.0.2"
            assert default_routes(box.pid) == ["10.1.0.1 eth0"]

    with_engine(tmp_path, work)


def test_events_are_docker_s(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        network = await made(engine, "a", "10.1.0.0/24")
        box = await serve(engine, "box", "a")
        await engine.networks.disconnect("a", "box")
        await engine.networks.connect("a", "box", EndpointOptions())
        await engine.containers.stop("box", timeout_s=0)
        await engine.networks.remove("a")
        await engine.networks.prune()
        past = [event for event in engine.events._past if event.type == "network"]
        assert [event.action for event in past] == [
            "create",
            *("connect", "disconnect") * 2,
            "destroy",
            "prune",
        ]
        assert {event.id for event in past[:-1]} == {network.id}
        assert past[1].attributes == {"container": box.id, "name": "a", "type": "bridge"}

    with_engine(tmp_path, work)


def test_figures_of_the_interfaces_count_what_passes(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        box = await serve(engine, "box", "bridge")
        before = (await engine.networks.counters(box))["eth0"]
        ask(address(box))
        after = (await engine.networks.counters(box))["eth0"]
        assert after.rx_packets > before.rx_packets
        assert after.tx_bytes > before.tx_bytes

    with_engine(tmp_path, work)


async def _isolated(engine: Engine, first: Network, second: Network) -> None:
    box = await serve(engine, "box", first.name)
    said = await _told(engine, address(box), network=second.name)
    assert all("box to" not in line for line in said)


def test_networks_do_not_reach_each_other_and_internal_ones_nobody(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        first = await made(engine, "a", "10.1.0.0/24")
        request = NetworkRequest(name="b", internal=True)
        second, _ = await engine.networks.create(request)
        await _isolated(engine, first, second)
        await engine.containers.remove("box", force=True)
        await _isolated(engine, second, first)

    with_engine(tmp_path, work)


def test_an_interface_has_the_name_the_settings_and_the_limits_it_is_to_have(
    tmp_path: Path,
) -> None:
    async def work(engine: Engine) -> None:
        endpoint = "com.docker.network.endpoint."
        wanted = EndpointOptions(
            driver_options={
                f"{endpoint}ifname": "web0",
                f"{endpoint}sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
            }
        )
        await made(engine, "a", "10.1.0.0/24")
        options = shell(
            "cd /proc/sys/net/ipv4; cat conf/web0/log_martians conf/web0/forwarding ip_default_ttl;"
            " exec sleep 60",
            network="a",
            networks={"a": wanted},
            sysctls={"net.ipv4.conf.web0.forwarding": "1", "net.ipv4.ip_default_ttl": "7"},
            bandwidth=Bandwidth(ingress_bps=8_000_000, egress_bps=4_000_000),
        )
        created = await engine.containers.create(options, name="box")
        await engine.containers.start(created.id)
        box = engine.containers.get("box")
        assert list(interfaces(box.pid)) == ["web0"]
        lines: list[str] = []
        async with asyncio.timeout(10):
            while len(lines) < 3:
                lines = (await output(engine, "box")).split()
        assert lines == ["1", "1", "7"]
        device = box.endpoints[0].host_interface
        said = subprocess.run(
            ["tc", "qdisc", "show", "dev", device], capture_output=True, text=True, check=True
        ).stdout
        assert "tbf" in said
        assert "8Mbit" in said

    with_engine(tmp_path, work)


def test_an_engine_that_is_stopped_leaves_containers_their_network(tmp_path: Path) -> None:
    async def work() -> None:
        async with Engine.open(settings(tmp_path)) as engine:
            network = await made(engine, "a", "10.1.0.0/24")
            unused = await made(engine, "b", "10.2.0.0/24")
            await serve(engine, "box", "a", port_bindings={"7000/tcp": (("", "7000"),)})
            await run(engine, shell("true", network="b"))
        devices = [line.partition(":")[0] for line in machine()]
        assert name_of(network) in devices
        assert name_of(unused) not in devices
        assert ask("10.1.0.2") == ["box to ::ffff:10.1.0.1"] * 2
        assert ask("127.0.0.1")[0].startswith("box to ")
        async with opened(tmp_path) as engine:
            assert engine.containers.get("box").endpoints[0].network == network.id
            await engine.networks.disconnect("a", "box")
            assert interfaces(engine.containers.get("box").pid) == {}

    asyncio.run(work())
