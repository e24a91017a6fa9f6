"""Real engines on hosts of their own: containers, the command line, kills."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.engines import EngineProcess, docker_archive
from tests.integration.networks.egress.arrivals import arriving
from tests.integration.networks.egress.frames import Host, forged, letter, to_neighbor
from tests.integration.vxlan.hosts import Underlay, hold_namespace, run, until

#: Frames of a container's making that have its own addresses.
_OWN = {
    *("plain", "broadcast", "multicast"),
    *("IPv6", "IPv6 multicast", "link-local", "ping", "MLD", "long ND"),
}

#: What hosts hold back that filter bridged frames, and what a bridge answers itself.
_MAYBE = {"a fragment", "long ARP"}


class EngineHost(EngineProcess):
    """An engine in a network namespace."""

    def __init__(self, folder: Path, underlay: Underlay, number: int) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.number = number
        self.address = f"10.99.0.{number}"
        self.holder = hold_namespace()
        underlay.plug(self.holder.pid, number)

    def start(self) -> None:
        with (self.run.parent / "engine.out").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "nsenter", f"--net=/proc/{self.holder.pid}/ns/net",
                    sys.executable, "-P", "-m", "orlop.programs.engine",
                ],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )  # fmt: skip
        self.await_answer()

    def orlop(self, *arguments: str, check: bool = True, said: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "orlop", *arguments],
            env=self.environment(),
            capture_output=True,
            input=said,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}{self.log()[-3000:]}"
        return (done.stdout or done.stderr).strip()

    def pid_of(self, name: str) -> int:
        return int(self.out("inspect", "--format", "{{.State.Pid}}", name))

    def members(self) -> list[str]:
        form = "{{.Address}} {{.Status}}"
        return sorted(self.orlop("network", "members", "web", "--format", form).splitlines())

    def close(self) -> None:
        if (
            self.process is None or self.process.poll() is not None
        ):  # only an engine can take its containers away
            self.start()
        super().close()
        self.holder.kill()
        self.holder.wait()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    return docker_archive(path, tags=["busybox:latest"], config={"Cmd": ["sh"]})


@pytest.fixture
def engines(underlay: Underlay, tmp_path: Path, image: Path) -> Iterator[list[EngineHost]]:
    with contextlib.ExitStack() as stack:
        made = []
        for number in (11, 12):
            engine = EngineHost(tmp_path / f"engine{number}", underlay, number)
            stack.callback(engine.close)
            engine.start()
            engine.docker("load", "-i", str(image))
            made.append(engine)
        yield made


def joined(engines: list[EngineHost]) -> None:
    """Have a network "web" on both."""
    one, two = engines
    one.orlop(
        "network", "create", "--driver", "vxlan", "--subnet", "10.20.0.0/24", "--ipv6",
        "--subnet", "fd20::/64", "--opt", f"local={one.address}", "web",
    )  # fmt: skip
    two.orlop("network", "join", "-", said=one.orlop("network", "token", "web"))
    until(lambda: one.members() == [f"{one.address} this host", f"{two.address} connected"])


def serve(engine: EngineHost, name: str, *options: str) -> str:
    """Start a container that serves its name on port 80, over both families."""
    engine.docker(
        "run", "-d", "--name", name, "--network", "web", *options, "busybox", "sh", "-c",
        f"mkdir /www; echo {name} >/www/index.html; exec httpd -f -p 80 -h /www",
    )  # fmt: skip
    found = json.loads(engine.out("inspect", name))[0]["NetworkSettings"]["Networks"]["web"]
    return str(found["IPAddress"])


def fetch(engine: EngineHost, where: str) -> str:
    return engine.docker(
        "run", "--rm", "--network", "web", "busybox", "wget", "-qO-", "-T", "3", f"http://{where}/",
        check=False,
    ).stdout.strip()  # fmt: skip


def test_containers_of_two_engines_find_each_other(engines: list[EngineHost]) -> None:
    one, two = engines
    joined(engines)
    here, there = serve(one, "here"), serve(two, "there", "--network-alias", "other")
    assert here != there
    assert fetch(one, there) == "there"
    assert fetch(two, here) == "here"
    until(lambda: fetch(one, "there") == "there")  # by name, of the other host
    assert fetch(one, "other") == "there"
    assert fetch(two, "here.web") == "here"
    two.docker("rename", "there", "elsewhere")
    until(lambda: fetch(one, "elsewhere") == "there")
    two.docker("rm", "-f", "elsewhere")
    until(lambda: fetch(one, "other") == "")


def test_a_container_passes_for_nobody_on_another_host(engines: list[EngineHost]) -> None:
    one, two = engines
    joined(engines)
    serve(one, "peer")
    serve(two, "sender", "--cap-add", "NET_RAW", "--cap-add", "NET_ADMIN")
    peer, sender = _host(one, "peer"), _host(two, "sender")
    fetch(two, peer.ip)  # the hosts know of both
    frames = to_neighbor(sender, peer) | forged(sender, peer, Host("", "", "fd20::1"))
    ends = {f"/proc/{one.pid_of('peer')}/ns/net": letter(sender, peer, peer)}
    come = asyncio.run(arriving(Placed(two.pid_of("sender")), frames, ends, enough=_OWN))
    assert come - _MAYBE == _OWN


class Placed(NamedTuple):
    pid: int


def _host(engine: EngineHost, name: str) -> Host:
    (shown,) = json.loads(engine.out("inspect", name))
    found = shown["NetworkSettings"]["Networks"]["web"]
    return Host(found["MacAddress"], found["IPAddress"], found["GlobalIPv6Address"])


def test_killed_engines_go_on_and_find_each_other_again(engines: list[EngineHost]) -> None:
    one, two = engines
    joined(engines)
    here, there = serve(one, "here"), serve(two, "there")
    until(lambda: fetch(one, "there") == "there")
    two.stop(signal.SIGKILL)
    assert fetch(one, there) == "there"
    one.stop(signal.SIGKILL)
    one.start()
    assert fetch(one, there) == "there"
    two.start()
    until(lambda: one.members() == [f"{one.address} this host", f"{two.address} connected"])
    until(lambda: fetch(one, "there") == "there")
    assert fetch(two, here) == "here"


def test_static_address_is_got_from_the_host_that_owns_it(engines: list[EngineHost]) -> None:
    one, two = engines
    joined(engines)
    assert serve(one, "high", "--ip", "10.20.0.200") == "10.20.0.200"
    assert serve(two, "low", "--ip", "10.20.0.77") == "10.20.0.77"
    assert fetch(one, "10.20.0.77") == "low"
    refused = two.docker(
        "run", "--rm", "--network", "web", "--ip", "10.20.0.200", "busybox", "true", check=False
    )
    assert "address 10.20.0.200 is another host's to give" in refused.stderr
    two.stop()
    refused = one.docker(
        "run", "--rm", "--network", "web", "--ip", "10.20.0.222", "busybox", "true", check=False
    )
    assert "address 10.20.0.222 is another host's to give" in refused.stderr


def test_what_somebody_removes_is_put_back(engines: list[EngineHost]) -> None:
    one, two = engines
    joined(engines)
    there = serve(two, "there")
    serve(one, "here")
    assert fetch(one, there) == "there"
    tunnel = run(one.holder.pid, "ip", "-br", "link", "show", "type", "vxlan").split()[0]
    run(one.holder.pid, "ip", "link", "del", tunnel)
    until(lambda: fetch(one, there) == "there")
    run(one.holder.pid, "ip", "link", "del", tunnel.replace("ov-", "or-"))
    until(lambda: fetch(one, there) == "there")
    run(one.holder.pid, "nft", "flush", "ruleset")
    until(lambda: "no member" in run(one.holder.pid, "nft", "list", "ruleset"))
    assert fetch(one, there) == "there"


def test_removing_the_network_leaves_it_and_nothing_behind(engines: list[EngineHost]) -> None:
    one, two = engines
    joined(engines)
    serve(two, "there")
    refused = two.docker("network", "rm", "web", check=False)
    assert "has active endpoints" in refused.stderr
    two.docker("rm", "-f", "there")
    two.docker("network", "rm", "web")
    until(lambda: one.members() == [f"{one.address} this host"])
    assert run(two.holder.pid, "ip", "-br", "link", "show", "type", "vxlan") == ""
    assert "vxlan" not in run(two.holder.pid, "nft", "list", "tables")
    until(lambda: "4789" not in run(two.holder.pid, "ss", "-Hltn"))
    two.orlop("network", "join", one.orlop("network", "token", "web"))
    serve(two, "again")
    until(lambda: fetch(one, "again") == "again")


def test_join_is_refused_in_one_clear_sentence(engines: list[EngineHost]) -> None:
    one, two = engines
    joined(engines)
    token = one.orlop("network", "token", "web")
    said = two.orlop("network", "join", token, check=False)
    assert "this host is a member of the network web already" in said
    assert "is no join token" in two.orlop("network", "join", token[:-5], check=False)
    assert "not shared with other hosts" in two.orlop("network", "token", "bridge", check=False)
    two.docker("network", "rm", "web")
    two.docker("network", "create", "web")
    assert "network with name web already exists" in two.orlop(
        "network", "join", token, check=False
    )
    two.docker("network", "rm", "web")
    two.docker("network", "create", "--subnet", "10.20.0.0/16", "mine")
    assert "10.20.0.0/24 is in use by another network" in two.orlop(
        "network", "join", token, check=False
    )
    assert one.members() == [f"{one.address} this host"]
