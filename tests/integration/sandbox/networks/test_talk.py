"""Sandboxes by recipes, on networks: with each other, with the host, by names, by ports."""

import json
import subprocess

import pytest

from orlop.errors import AlreadyExistsError
from tests.integration.engines import EngineProcess
from tests.integration.networks.scenes import can_bind
from tests.integration.sandbox.networks.quick import (
    ASK,
    WHO_AM_I,
    Quick,
    ask,
    is_there,
    wait_until,
)


def endpoint(engine: EngineProcess, container: str, network: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        engine.out("inspect", "--format", "{{json .NetworkSettings.Networks}}", container)
    )[network]
    return found


def test_sandboxes_reach_each_other_and_the_host(engine: EngineProcess, quick: Quick) -> None:
    server = quick.serve(neighbours=True)
    there = endpoint(engine, server.id, "bridge")
    address, gateway = there["IPAddress"], there["Gateway"]
    assert ask(address) == f"{gateway} {gateway}"
    told = "cat /proc/self/net/fib_trie | grep -B1 /32.host | grep -v 127.0.0.1; cat /etc/hosts"
    other = quick.run("sh", "-c", f'{told}; python3 -c "$0" $1 7000', ASK, address, neighbours=True)
    own = next(line.split()[-1] for line in other.splitlines() if "|--" in line)
    assert other.splitlines()[-1] == f"{own} {own}"
    assert any(line.split()[0] == own for line in other.splitlines())  # of /etc/hosts
    server.close()
    assert server.id not in engine.out("ps", "-aq", "--no-trunc")


def test_names_lead_to_sandboxes_on_a_network_of_the_user_s(
    engine: EngineProcess, quick: Quick
) -> None:
    engine.docker("network", "create", "front")
    web = quick.serve(network="front", Hostname="web")
    address = endpoint(engine, web.id, "front")["IPAddress"]
    told = quick.run(
        "sh", "-c", 'cat /etc/resolv.conf; python3 -c "$0" web 7000', ASK, network="front"
    )
    own = told.splitlines()[-1].split()[0]
    assert "nameserver 127.0.0.11" in told
    assert ask(address).split()[0] != own
    assert quick.run("getent", "hosts", web.id[:12], network="front").split()[0] == address
    seen = engine.out("run", "--rm", "--network", "front", "host", "getent", "hosts", "web")
    assert seen.split()[0] == address
    engine.docker("network", "connect", "bridge", web.id[:12])
    other = endpoint(engine, web.id, "bridge")
    assert ask(other["IPAddress"]).split()[0] == other["Gateway"]
    web.close()
    engine.docker("network", "rm", "front")


def test_ports_lists_and_chosen_addresses_are_as_for_containers(
    engine: EngineProcess, quick: Quick
) -> None:
    """And what is chosen is had, though a namespace that waits has it."""
    engine.docker("network", "create", "--subnet", "10.9.0.0/16", "back")
    used = quick.run("sh", "-c", "getent hosts $(hostname)", network="back").split()[0]
    chosen = {
        "NetworkingConfig": {"EndpointsConfig": {"back": {"IPAMConfig": {"IPv4Address": used}}}}
    }
    server = quick.serve(
        network="back", HostConfig={"PortBindings": {"7000/tcp": [{"HostPort": "17000"}]}}, **chosen
    )
    assert ask("127.0.0.1", 17000).split()[0] == "10.9.0.1"
    assert ask(used).split()[0] == "10.9.0.1"
    with pytest.raises(AlreadyExistsError, match="already in use"):
        quick.run("true", network="back", **chosen)
    closed = quick.run(
        "python3", "-c", ASK, used, "7000", network="back", HostConfig={"Egress": []}
    )
    assert "not permitted" in closed or "prohibited" in closed or "refused" in closed, closed
    server.close()
    wait_until(lambda: can_bind(17000))


def test_a_bridge_that_somebody_removes_is_there_again_with_all(
    engine: EngineProcess, quick: Quick
) -> None:
    server = quick.serve(neighbours=True)
    there = endpoint(engine, server.id, "bridge")
    who = quick.run(*WHO_AM_I)
    name = '{{index .Options "com.docker.network.bridge.name"}}'
    bridge = engine.out("network", "inspect", "--format", name, "bridge")
    subprocess.run(["ip", "link", "delete", bridge], check=True)
    wait_until(lambda: ask(there["IPAddress"]).split()[0] == there["Gateway"])
    wait_until(lambda: not is_there(who))  # it waited on the bridge before
    other = quick.run("python3", "-c", ASK, there["IPAddress"], "7000", neighbours=True)
    assert len(set(other.split())) == 1
