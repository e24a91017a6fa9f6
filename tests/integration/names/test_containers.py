"""Real containers of a real engine: what they find, and what stands in their files."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess
from tests.integration.names.scene import Upstream

GATEWAY = "10.214.0.1"


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, network_of_the_tests: None
) -> Iterator[EngineProcess]:
    """An engine with a network `front`, and `web` and `db` on it."""
    process = EngineProcess(tmp_path_factory.mktemp("e"))
    try:
        process.start()
        process.out("network", "create", "--subnet", "10.214.0.0/24", "--gateway", GATEWAY, "front")
        process.out("network", "create", "--internal", "inner")
        start(process, "web", "--network", "front", "--network-alias", "site", "-h", "www")
        start(process, "db", "--network", "front", "--network-alias", "site")
        yield process
    finally:
        process.close()


def start(engine: EngineProcess, name: str, *options: str) -> str:
    return engine.out("run", "-d", "--name", name, *options, "host", "sleep", "1000")


def inside(engine: EngineProcess, name: str, *words: str) -> str:
    return engine.out("exec", name, *words)


def addresses(engine: EngineProcess, name: str, wanted: str) -> set[str]:
    """Return what the C library finds in a container."""
    done = engine.docker("exec", name, "getent", "ahostsv4", wanted, check=False)
    return {line.split()[0] for line in done.stdout.splitlines()}


def address(engine: EngineProcess, name: str, network: str = "front") -> str:
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return engine.out("inspect", "-f", form, name)


def status(engine: EngineProcess, name: str, *words: str) -> str:
    said = inside(engine, name, "dig", "+time=6", "+tries=1", *words)
    return said.split("status: ")[1].split(",")[0]


@pytest.fixture
def brief(engine: EngineProcess) -> Iterator[list[str]]:
    """Names of containers that are removed when the test is over."""
    names: list[str] = []
    yield names
    if names:
        engine.docker("rm", "-f", *names, check=False)


def test_containers_find_each_other(engine: EngineProcess) -> None:
    web, db = address(engine, "web"), address(engine, "db")
    assert addresses(engine, "web", "db") == {db}
    assert addresses(engine, "db", "WEB.front") == {web}
    assert addresses(engine, "db", "www") == {web}
    assert addresses(engine, "db", "site") == {web, db}
    assert inside(engine, "db", "getent", "hosts", web).split() == [web, "web.front"]


def test_the_files_say_where_the_container_is(engine: EngineProcess) -> None:
    hosts = inside(engine, "web", "cat", "/etc/hosts").splitlines()
    assert f"{address(engine, 'web')}\twww" in hosts
    assert "127.0.0.1\tlocalhost" in hosts
    resolv_conf = inside(engine, "web", "cat", "/etc/resolv.conf")
    assert resolv_conf.startswith("nameserver 127.0.0.11\n")
    assert "ndots:0" in resolv_conf
    assert inside(engine, "web", "cat", "/etc/hostname") == "www"


def test_who_joins_anothers_network_has_its_files_and_its_name(engine: EngineProcess) -> None:
    run = ["run", "--rm", "--network", "container:web", "host"]
    said = engine.out(*run, "sh", "-c", "cat /etc/hostname; hostname; getent ahostsv4 db")
    assert said.split()[:3] == ["www", "www", address(engine, "db")]


def test_a_connected_container_is_found_and_its_files_follow(
    engine: EngineProcess, brief: list[str]
) -> None:
    engine.out("network", "create", "back")
    brief += ["mover", "stayer"]
    start(engine, "mover", "--network", "front")
    start(engine, "stayer", "--network", "back")
    assert addresses(engine, "stayer", "mover") == set()
    engine.out("network", "connect", "--alias", "guest", "back", "mover")
    there = address(engine, "mover", "back")
    assert addresses(engine, "stayer", "mover") == addresses(engine, "stayer", "guest") == {there}
    assert addresses(engine, "mover", "stayer") == {address(engine, "stayer", "back")}
    assert there in inside(engine, "mover", "cat", "/etc/hosts")
    inside(engine, "mover", "sh", "-c", "echo 192.0.2.4 mine >> /etc/hosts")
    engine.out("network", "disconnect", "back", "mover")
    assert addresses(engine, "stayer", "mover") == set()
    assert addresses(engine, "mover", "stayer") == set()
    hosts = inside(engine, "mover", "cat", "/etc/hosts")
    assert there not in hosts
    assert "192.0.2.4 mine" in hosts
    engine.out("rm", "-f", "mover", "stayer")
    engine.out("network", "rm", "back")


def test_a_resolv_conf_that_was_changed_is_left_alone(
    engine: EngineProcess, brief: list[str]
) -> None:
    brief.append("stubborn")
    start(engine, "stubborn", "--network", "front")
    inside(engine, "stubborn", "sh", "-c", "echo nameserver 192.0.2.1 > /etc/resolv.conf")
    engine.out("network", "connect", "inner", "stubborn")
    engine.out("restart", "-t", "0", "stubborn")
    assert inside(engine, "stubborn", "cat", "/etc/resolv.conf") == "nameserver 192.0.2.1"
    assert f"{address(engine, 'stubborn')}\t" in inside(engine, "stubborn", "cat", "/etc/hosts")


def test_what_was_asked_for_is_in_the_files(engine: EngineProcess, brief: list[str]) -> None:
    brief.append("asked")
    more = ["--dns-search", "corp.example", "--dns-option", "timeout:1", "--domainname", "lan"]
    added = ["--add-host", "old:192.0.2.7", "--add-host", "gate=host-gateway", "-h", "box"]
    start(engine, "asked", "--network", "front", *more, *added)
    assert inside(engine, "asked", "cat", "/etc/resolv.conf") == (
        "nameserver 127.0.0.11\nsearch corp.example\noptions timeout:1 ndots:0"
    )
    hosts = inside(engine, "asked", "cat", "/etc/hosts").splitlines()
    assert "192.0.2.7\told" in hosts
    assert f"{GATEWAY}\tgate" in hosts
    assert f"{address(engine, 'asked')}\tbox.lan box" in hosts


def test_a_rename_is_seen_and_an_end_as_well(engine: EngineProcess, brief: list[str]) -> None:
    brief.append("second")
    start(engine, "first", "--network", "front")
    there = address(engine, "first")
    engine.out("rename", "first", "second")
    assert addresses(engine, "db", "second") == {there}
    assert addresses(engine, "db", "first") == set()
    engine.out("stop", "-t", "0", "second")
    assert addresses(engine, "db", "second") == set()


def test_a_link_is_a_name_for_one_container(engine: EngineProcess, brief: list[str]) -> None:
    brief += ["linked", "base", "user"]
    start(engine, "linked", "--network", "front", "--link", "db:store")
    assert addresses(engine, "linked", "store") == {address(engine, "db")}
    assert "store" not in inside(engine, "linked", "cat", "/etc/hosts")  # its address may change
    assert addresses(engine, "web", "store") == set()
    start(engine, "base")
    start(engine, "user", "--link", "base:lower")
    assert addresses(engine, "user", "lower") == {address(engine, "base", "bridge")}


def test_its_own_servers_are_asked_from_the_container(
    engine: EngineProcess, brief: list[str]
) -> None:
    brief += ["outward", "inward"]
    upstream = Upstream(None, GATEWAY, {b"\x05world\x07example\x00": ["192.0.2.80"]})
    try:
        start(engine, "outward", "--network", "front", "--dns", GATEWAY)
        assert addresses(engine, "outward", "world.example") == {"192.0.2.80"}
        assert upstream.asked[0][0][0] == address(engine, "outward")
        asked = len(upstream.asked)
        start(engine, "inward", "--network", "inner")
        assert status(engine, "inward", "world.example") == "SERVFAIL"
        assert status(engine, "inward", "inward") == "NOERROR"
        assert len(upstream.asked) == asked
    finally:
        upstream.close()


def test_a_container_can_be_a_name_server_itself(engine: EngineProcess, brief: list[str]) -> None:
    brief.append("server")
    script = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('0.0.0.0', 53));"
        "t = socket.socket(); t.bind(('', 53)); t.listen();"
        "\nwhile True: m, a = s.recvfrom(600); s.sendto(m, a)"
    )
    run = ["run", "-d", "--name", "server", "--network", "front", "host", "python3", "-c", script]
    engine.out(*run)
    assert addresses(engine, "server", "db") == {address(engine, "db")}
    assert engine.out("inspect", "-f", "{{.State.Running}}", "server") == "true"


def test_names_come_back_with_the_next_engine(engine: EngineProcess) -> None:
    assert engine.stop(signal.SIGKILL) == -signal.SIGKILL
    engine.start()
    assert addresses(engine, "web", "db") == {address(engine, "db")}
    assert addresses(engine, "db", "site") == {address(engine, "web"), address(engine, "db")}


def test_nothing_of_a_container_stays(engine: EngineProcess, brief: list[str]) -> None:
    before = descriptors(engine)
    brief += [f"gone{number}" for number in range(5)]
    for name in brief:
        start(engine, name, "--network", "front", "--rm")
    assert namespaces(engine) >= len(brief) + 2
    engine.out("kill", *brief)
    for name in brief:
        with suppress(AssertionError):
            engine.out("wait", name)
    assert descriptors(engine) <= before + 4 * 4  # what is made ahead
    assert addresses(engine, "db", "gone1") == set()


def descriptors(engine: EngineProcess) -> int:
    assert engine.process is not None
    return len(os.listdir(f"/proc/{engine.process.pid}/fd"))


def namespaces(engine: EngineProcess) -> int:
    """Return in how many network namespaces the engine has listening sockets."""
    listed = subprocess.run(
        ["lsns", "-t", "net", "-n", "-o", "NS"], capture_output=True, text=True, check=True
    )
    return len(listed.stdout.split())


def test_without_a_network_nothing_of_this_is_loaded(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path)
    os.environ["PYTHONPROFILEIMPORTTIME"] = "1"
    try:
        engine.start()
    finally:
        del os.environ["PYTHONPROFILEIMPORTTIME"]
    try:
        engine.out("run", "--rm", "--network", "none", "host", "true")
        assert "orlop.engine.containers.files" in engine.log()
        assert "orlop.engine.names." not in engine.log()
        assert "orlop.network.dns" not in engine.log()
        engine.out("network", "create", "some")
        engine.out("run", "--rm", "--network", "some", "host", "true")
        assert "orlop.engine.names." in engine.log()
    finally:
        engine.close()
