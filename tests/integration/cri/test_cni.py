"""Pods on networks of CNI plugins: Debian's, and one that fails or hangs when a file says so."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orlop.api.cri import v1
from tests.integration.cri.kubelet import Kubelet, RefusedError
from tests.integration.cri.pod import Pod, eventually, remove_cgroups
from tests.integration.engines import EngineProcess

#: Fails or hangs at the command that "mood" has, as long as it does; its arguments go to "told".
_MOODY = """#!/bin/sh
set -f
cat >{folder}/input
case "$(cat {folder}/mood 2>/dev/null)" in
    "fail $CNI_COMMAND") echo '{{"code": 100, "msg": "no mood for it"}}'; exit 1 ;;
    "hang $CNI_COMMAND") echo >{folder}/hangs
        while grep -q hang {folder}/mood; do sleep 0.1; done ;;
esac
[ "$CNI_COMMAND" = ADD ] || exit 0
echo "$CNI_ARGS" >{folder}/told
sed 's/.*"prevResult":\\(.*\\)}}$/\\1/' {folder}/input
"""


class Engine(EngineProcess):
    """An engine in a network namespace of its own, with a network of plugins."""

    def __init__(self, folder: Path, net: str) -> None:
        super().__init__(folder, within=["nsenter", net])
        self.net = net
        self.folder = folder
        self.leases = folder / "leases" / "pods"
        (folder / "plugins").mkdir()
        moody = folder / "plugins" / "moody"
        moody.write_text(_MOODY.format(folder=folder))
        moody.chmod(0o755)
        self.configure("pods")

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "ORLOP_CNI_PLUGINS": f"{self.folder}/plugins:/usr/lib/cni",
        }

    def configure(self, name: object) -> None:
        """Write the network's file; a *name* that is no text makes it wrong."""
        ipam = {
            "type": "host-local",
            "dataDir": str(self.leases.parent),
            "ranges": [[{"subnet": "10.99.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        plugins = [
            {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "moody"},
        ]
        text = json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": plugins})
        (self.folder / "cni").mkdir(exist_ok=True)
        (self.folder / "cni" / "10-pods.conflist").write_text(text)

    def mood(self, text: str) -> None:
        (self.folder / "mood").write_text(text)

    def leased(self) -> list[str]:
        """Return the addresses that are in use, as the plugin keeps them."""
        return sorted(one.name for one in self.leases.glob("10.*"))

    def inside(self, *words: str) -> str:
        """Run a command in the engine's network namespace."""
        done = subprocess.run(
            ["nsenter", self.net, *words], capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout

    def interfaces(self) -> list[str]:
        return [line for line in self.inside("ls", "/sys/class/net").split() if "veth" in line]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path) -> Iterator[Engine]:
    with subprocess.Popen(["unshare", "-n", "sleep", "987127"]) as holder:
        own = os.readlink("/proc/self/ns/net")
        eventually(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own)
        folder = tmp_path_factory.mktemp("engine")
        process = Engine(folder, f"--net=/proc/{holder.pid}/ns/net")
        process.start()
        process.docker("load", "-i", str(busybox_archive))
        try:
            yield process
        finally:
            process.close()
            holder.kill()


@pytest.fixture
def kubelet(engine: Engine) -> Iterator[Kubelet]:
    """A kubelet that connects anew for each test: engines are killed here."""
    engine.mood("")
    connected = Kubelet(engine.run / "cri.sock")
    try:
        yield connected
    finally:
        connected.close()


@pytest.fixture
def make_pod(kubelet: Kubelet, tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    made: list[Pod] = []

    def make(**changes: object) -> Pod:
        made.append(Pod(kubelet, tmp_path, **changes))
        return made[-1]

    try:
        yield make
    finally:
        for pod in made:
            with suppress(RefusedError):
                kubelet(v1.RemovePodSandboxRequest(pod_sandbox_id=pod.id or "0"))
        remove_cgroups()


def test_a_pods_address_is_the_plugins(engine: Engine, make_pod: Callable[..., Pod]) -> None:
    pod, other = make_pod().run(), make_pod().run()
    address = pod.sandbox().network.ip
    assert engine.leased() == sorted([address, other.sandbox().network.ip])
    pod.start("main", "sh", "-c", "ip -4 -o address show dev eth0; nc -l -p 80 -e hostname")
    eventually(lambda: f"inet {address}/24 " in pod.output("main"))
    ask = ["sh", "-c", f"until nc {address} 80 2>/dev/null; do sleep 0.1; done"]
    other.run_to_end("main", *ask)
    assert other.output("main") == "web\n"
    told = dict(word.split("=") for word in (engine.folder / "told").read_text().strip().split(";"))
    assert told["K8S_POD_NAME"] == "web"
    assert told["K8S_POD_UID"] == other.config.metadata.uid
    assert told["K8S_POD_INFRA_CONTAINER_ID"] == other.id
    stats = pod.kubelet(v1.PodSandboxStatsRequest(pod_sandbox_id=pod.id)).stats
    assert stats.linux.network.default_interface.name == "eth0"
    assert stats.linux.network.default_interface.rx_bytes.value > 0
    for one in (pod, other):
        one.stop()
        assert one.sandbox().network.ip == ""
    assert engine.leased() == engine.interfaces() == []


def test_ports_of_the_host_are_the_plugins_matter(
    engine: Engine, make_pod: Callable[..., Pod]
) -> None:
    mapping = v1.PortMapping(container_port=8080, host_port=8085)
    pod = make_pod(port_mappings=[mapping]).run()
    pod.start("main", "sh", "-c", "while true; do hostname | nc -l -p 8080; done")
    address = engine.inside("sh", "-c", "ip -4 -o addr show cni0 | sed 's/.*inet //; s,/.*,,'")
    eventually(lambda: engine.inside("busybox", "nc", address.strip(), "8085") == "web\n")
    pod.stop()
    assert "8085" not in engine.inside("iptables-save")


def test_pods_and_their_networks_outlive_the_engine(
    engine: Engine, make_pod: Callable[..., Pod], tmp_path: Path
) -> None:
    pod = make_pod().run()
    address = pod.sandbox().network.ip
    engine.stop(signal.SIGKILL)
    again = restarted(engine)
    pod.kubelet = again
    try:
        assert (pod.sandbox().state, pod.sandbox().network.ip) == (v1.SANDBOX_READY, address)
        assert engine.leased() == [address]
        pod.start("main", "sh", "-c", "ip -4 -o address show dev eth0")
        eventually(lambda: f"inet {address}/24 " in pod.output("main"))
        pod.remove()
        assert engine.leased() == engine.interfaces() == []
    finally:
        again.close()


def restarted(engine: Engine) -> Kubelet:
    """Start the engine where it was before, and connect to it."""
    engine.start()
    return Kubelet(engine.run / "cri.sock")


def test_a_pod_whose_plugin_fails_leaves_nothing(
    engine: Engine, kubelet: Kubelet, make_pod: Callable[..., Pod]
) -> None:
    engine.mood("fail ADD")
    pod = make_pod()
    with pytest.raises(RefusedError, match="no mood for it"):
        pod.run()
    assert engine.leased() == engine.interfaces() == []
    assert not kubelet(v1.ListPodSandboxRequest()).items


def test_a_pod_that_a_plugin_does_not_let_go_can_be_stopped_later(
    engine: Engine, make_pod: Callable[..., Pod]
) -> None:
    pod = make_pod().run()
    engine.mood("fail DEL")
    with pytest.raises(RefusedError, match="no mood for it"):
        pod.stop()
    assert pod.sandbox().state == v1.SANDBOX_READY
    engine.mood("")
    pod.stop()
    assert engine.leased() == engine.interfaces() == []


def test_what_a_killed_engine_left_is_deleted_by_the_next(
    engine: Engine, make_pod: Callable[..., Pod]
) -> None:
    engine.mood("hang ADD")
    pod = make_pod()

    def run() -> None:
        with suppress(RefusedError):
            pod.run()

    running = threading.Thread(target=run)
    running.start()
    hangs = engine.folder / "hangs"
    eventually(lambda: hangs.exists())
    hangs.unlink()
    assert len(engine.leased()) == 1
    engine.stop(signal.SIGKILL)
    running.join()
    engine.mood("")
    again = restarted(engine)
    try:
        assert not again(v1.ListPodSandboxRequest()).items
        eventually(lambda: engine.leased() == [])
    finally:
        again.close()


def test_a_wrong_configuration_is_told_and_makes_no_pods(
    engine: Engine, kubelet: Kubelet, make_pod: Callable[..., Pod]
) -> None:
    def network() -> v1.RuntimeCondition:
        found: v1.RuntimeCondition = kubelet(v1.StatusRequest()).status.conditions[1]
        return found

    assert (network().type, network().status) == ("NetworkReady", True)
    engine.configure(7)
    try:
        assert not network().status
        assert "10-pods.conflist" in network().message
        with pytest.raises(RefusedError) as refused:
            make_pod().run()
        assert refused.value.code == "UNAVAILABLE"
    finally:
        engine.configure("pods")
