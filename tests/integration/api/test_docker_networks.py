"""Networks by the docker command and by docker-py, with packets through them."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"
ANSWER = "while true; do echo hello | nc -l -p 80; done"
pytestmark = pytest.mark.usefixtures("image", "_networks_removed")


@pytest.fixture
def _networks_removed(engine: EngineProcess) -> Iterator[None]:
    yield
    if ids := engine.out("ps", "-aq").split():
        engine.docker("rm", "-f", *ids)
    engine.docker("network", "prune", "-f")


@pytest.fixture
def client(engine: EngineProcess) -> Iterator[Any]:
    client = docker.DockerClient(base_url=engine.url, timeout=30)
    yield client
    client.close()


def fetch(address: tuple[str, int]) -> bytes:
    """Return what a server says, which may not have begun to listen."""
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection(address, 2) as connection:
            if said := connection.recv(64):
                return said
        assert time.monotonic() < deadline, f"no answer from {address}"
        time.sleep(0.05)


def test_docker_makes_lists_shows_and_removes_networks(engine: EngineProcess) -> None:
    words = ["--subnet", "10.81.0.0/16", "--ip-range", "10.81.4.0/24", "--label", "a=b"]
    made = engine.out("network", "create", *words, "--internal", "own")
    assert re.fullmatch("[0-9a-f]{64}", made)
    listed = engine.out("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}")
    assert listed.splitlines() == [
        "bridge bridge local",
        "host host local",
        "none null local",
        "own bridge local",
    ]
    form = "{{.Name}} {{.Internal}} {{.Labels.a}} {{(index .IPAM.Config 0).IPRange}}"
    assert engine.out("network", "inspect", "-f", form, made[:6]) == "own true b 10.81.4.0/24"
    assert engine.out("network", "ls", "-q", "--filter", "id=" + made[5:20]) == made[:12]
    assert engine.out("network", "inspect", "-v", "-f", "{{.Id}}", "own") == made
    done = engine.docker("network", "create", "own", check=False)
    assert "network with name own already exists" in done.stderr
    assert engine.out("network", "rm", "own") == "own"
    done = engine.docker("network", "rm", "own", check=False)
    assert (done.returncode, "network own not found" in done.stderr) == (1, True)


def test_docker_connects_and_disconnects(engine: EngineProcess, name: str) -> None:
    engine.docker("network", "create", "--subnet", "10.82.0.0/16", "own")
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "100")
    engine.docker("network", "connect", "--ip", "10.82.0.9", "--alias", "nine", "own", name)
    assert "inet 10.82.0.9/16" in engine.out("exec", name, "ip", "addr")
    pinged = engine.out("run", "--rm", "--network", "own", IMAGE, "ping", "-c1", "-W2", "nine")
    assert "(10.82.0.9)" in pinged
    form = '{{(index .NetworkSettings.Networks "own").IPAddress}}'
    assert engine.out("inspect", "-f", form, name) == "10.82.0.9"
    form = "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}"
    assert engine.out("network", "inspect", "-f", form, "own") == f"{name} 10.82.0.9/16"
    done = engine.docker("network", "rm", "own", check=False)
    assert "has active endpoints" in done.stderr
    engine.docker("network", "disconnect", "own", name)
    assert "10.82.0.9" not in engine.out("exec", name, "ip", "addr")
    assert engine.out("network", "prune", "-f").split() == ["Deleted", "Networks:", "own"]


def test_docker_publishes_ports(engine: EngineProcess, name: str) -> None:
    words = ["-p", "127.0.0.1:28080:80", "-p", "28100-28101:90-91/udp", "-p", "80"]
    engine.docker("run", "-d", "--name", name, *words, IMAGE, "sh", "-c", ANSWER)
    assert fetch(("127.0.0.1", 28080)) == b"hello\n"
    lines = engine.out("port", name).splitlines()
    assert {"80/tcp -> 127.0.0.1:28080", "91/udp -> 0.0.0.0:28101"} <= set(lines)
    shown = engine.out("ps", "--filter", f"name={name}", "--format", "{{.Ports}}")
    assert "127.0.0.1:28080->80/tcp" in shown
    chosen = [line.rpartition(":")[2] for line in lines if line.startswith("80/tcp -> 0.0.0.0:")]
    assert fetch(("127.0.0.1", int(chosen[0]))) == b"hello\n"


def test_docker_says_all_of_a_network_at_once(engine: EngineProcess, name: str) -> None:
    engine.docker("network", "create", "--subnet", "10.83.0.0/16", "own")
    engine.docker("network", "create", "other")
    full = "name=own,ip=10.83.0.7,alias=x,mac-address=02:42:0a:53:00:07,driver-opt=k=v"
    words = ["--network", full, "--network", "other"]
    engine.docker("run", "-d", "--name", name, *words, IMAGE, "sleep", "100")
    networks = json.loads(engine.out("inspect", "-f", "{{json .NetworkSettings.Networks}}", name))
    assert set(networks) == {"own", "other"}
    own = networks["own"]
    assert (own["IPAddress"], own["MacAddress"]) == ("10.83.0.7", "02:42:0a:53:00:07")
    assert (own["Aliases"], own["DriverOpts"]) == (["x"], {"k": "v"})
    assert networks["other"]["IPAddress"]


def test_docker_limits_by_kubernetes_annotations(engine: EngineProcess, name: str) -> None:
    words = ["--annotation", "kubernetes.io/egress-bandwidth=8M"]
    engine.docker("create", "--name", name, *words, IMAGE, "sleep", "100")
    shown = json.loads(engine.out("inspect", "-f", "{{json .HostConfig.Annotations}}", name))
    assert shown == {"kubernetes.io/egress-bandwidth": "8M"}
    words = ["--annotation", "kubernetes.io/egress-bandwidth=much"]
    done = engine.docker("create", *words, IMAGE, check=False)
    assert "such as 10M" in done.stderr


def test_docker_hears_what_happens_to_networks(engine: EngineProcess, name: str) -> None:
    began = time.time()
    engine.docker("network", "create", "told")
    engine.docker("run", "--rm", "--name", name, "--network", "told", IMAGE, "true")
    engine.docker("network", "rm", "told")
    window = ["--since", f"{began:.6f}", "--until", f"{time.time():.6f}"]
    form = "{{.Action}} {{.Actor.Attributes.name}}"
    told = engine.out("events", *window, "--filter", "network=told", "--format", form)
    steps = ("create", "connect", "disconnect", "destroy")
    assert told.splitlines() == [f"{step} told" for step in steps]


def test_docker_shows_bytes_that_went_over_each_interface(engine: EngineProcess, name: str) -> None:
    engine.docker("network", "create", "own")
    engine.docker("run", "-d", "--name", name, "--network", "own", IMAGE, "sleep", "100")
    sender = ["run", "--rm", "--network", "own", IMAGE, "ping", "-c3", "-s", "1000", "-W2", name]
    engine.docker(*sender)
    shown = engine.out("stats", "--no-stream", "--format", "{{.NetIO}}", name)
    received, sent = shown.split(" / ")
    assert received.endswith("kB")
    assert sent.endswith("kB")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("network", "create", "host"), "operation is not permitted on predefined host network"),
        (("network", "rm", "none"), "none is a pre-defined network and cannot be removed"),
        (("network", "create", "-d", "overlay", "x"), "overlay"),
        (("network", "create", "--config-only", "x"), "configuration-only networks"),
        (("network", "create", "--ipam-driver", "x", "x"), 'plugin "x" not found'),
        (("network", "create", "--subnet", "10.0.0.0/8", "--subnet", "nonsense", "x"), "nonsense"),
        (("run", "--network", "nowhere", IMAGE), "network nowhere not found"),
        (("run", "-p", "80", "--network", "container:x", IMAGE), "port publishing and the"),
        (("run", "--ip", "1.2.3.4", IMAGE), "user specified IP address is supported"),
        (("run", "--link", "nobody", IMAGE), "nobody"),
    ],
)
def test_docker_is_told_of_mistakes_about_networks(
    engine: EngineProcess, words: tuple[str, ...], sentence: str
) -> None:
    done = engine.docker(*words, check=False)
    assert done.returncode in (1, 125)
    assert sentence in done.stderr
    assert engine.out("ps", "-aq", "--filter", "status=created") == ""


def test_ipam_options_are_shown_as_they_were_given(engine: EngineProcess, client: Any) -> None:
    """The docker command sends {}, the SDK nothing."""
    engine.docker("network", "create", "command")
    client.networks.create("sdk", ipam=docker.types.IPAMConfig())
    form = "{{json .IPAM.Options}}"
    assert engine.out("network", "inspect", "-f", form, "command", "sdk").split() == ["{}", "null"]


def test_sdk_makes_networks_with_addresses(client: Any) -> None:
    pool = docker.types.IPAMPool(
        subnet="10.84.0.0/16", gateway="10.84.0.5", aux_addresses={"x": "10.84.0.2"}
    )
    network = client.networks.create(
        "sdk", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels={"k": "v"}
    )
    (config,) = network.attrs["IPAM"]["Config"]
    assert (config["Subnet"], config["Gateway"]) == ("10.84.0.0/16", "10.84.0.5")
    assert config["AuxiliaryAddresses"] == {"x": "10.84.0.2"}
    assert [found.name for found in client.networks.list(names=["sdk"])] == ["sdk"]
    assert client.networks.get("sdk").id == network.id
    network.remove()
    with pytest.raises(docker.errors.NotFound, match="network sdk not found"):
        client.networks.get("sdk")
    with pytest.raises(docker.errors.APIError) as caught:
        client.networks.create("bridge")
    assert caught.value.status_code == 403


def test_sdk_connects_and_disconnects(client: Any) -> None:
    network = client.networks.create(
        "sdk",
        ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.85.0.0/16")]),
    )
    container = client.containers.run(IMAGE, ["sleep", "100"], detach=True)
    network.connect(container, ipv4_address="10.85.0.44", aliases=["there"])
    container.reload()
    there = container.attrs["NetworkSettings"]["Networks"]["sdk"]
    assert (there["IPAddress"], there["IPPrefixLen"]) == ("10.85.0.44", 16)
    assert there["Aliases"] == ["there"]
    network.reload()
    assert [found.name for found in network.containers] == [container.name]
    network.disconnect(container)
    with pytest.raises(docker.errors.APIError, match="is not connected to"):
        network.disconnect(container, force=True)
    container.reload()
    assert list(container.attrs["NetworkSettings"]["Networks"]) == ["bridge"]
    assert client.networks.prune()["NetworksDeleted"] is None or "sdk" not in [
        found.name for found in client.networks.list()
    ]


def test_sdk_publishes_ports(client: Any) -> None:
    container = client.containers.run(
        IMAGE,
        ["sh", "-c", ANSWER],
        detach=True,
        ports={"80/tcp": ("127.0.0.1", None), "53/udp": [28053, 28054]},
    )
    container.reload()
    (place,) = container.ports["80/tcp"]
    assert fetch((place["HostIp"], int(place["HostPort"]))) == b"hello\n"
    assert {place["HostPort"] for place in container.ports["53/udp"]} == {"28053", "28054"}
    settings = container.attrs["NetworkSettings"]
    assert settings["IPAddress"] == settings["Networks"]["bridge"]["IPAddress"] != ""
    with open(settings["SandboxKey"]) as namespace:
        assert namespace.fileno() >= 0


def test_sdk_runs_on_a_network_with_a_mac(client: Any) -> None:
    client.networks.create("sdk")
    mac = "02:42:00:00:00:99"
    config = client.api.create_networking_config(
        {"sdk": client.api.create_endpoint_config(aliases=["m"], mac_address=mac)}
    )
    made = client.api.create_container(
        IMAGE,
        ["sleep", "100"],
        networking_config=config,
        host_config=client.api.create_host_config(network_mode="sdk"),
    )
    client.api.start(made["Id"])
    (there,) = client.api.inspect_container(made["Id"])["NetworkSettings"]["Networks"].values()
    assert (there["MacAddress"], there["Aliases"]) == (mac, ["m"])
