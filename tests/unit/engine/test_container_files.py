"""The files of containers: what is in them, and whose changes count."""

from pathlib import Path

import pytest

from orlop.engine.containers import files
from orlop.engine.containers.files import Addressing, refresh_files, write_files
from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions
from orlop.model.network import EndpointOptions

ON_FRONT = ContainerOptions(network="front", networks={"front": EndpointOptions()})
FRONT = Addressing(addresses=("10.9.0.2",), gateways=("10.9.0.1",), named=True)
BRIDGE = Addressing(addresses=("172.17.0.2",), gateways=("172.17.0.1",))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A container's folder, on a host with a resolv.conf that `host` writes."""
    monkeypatch.setattr(files, "_RESOLV_CONF", str(tmp_path / "host.conf"))
    monkeypatch.setattr(files, "_BEHIND_STUB", str(tmp_path / "behind.conf"))
    host(tmp_path, "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch corp.example\n")
    (tmp_path / "c").mkdir()
    return tmp_path / "c"


def host(folder: Path, text: str, name: str = "host.conf") -> None:
    (folder / name).write_text(text)


def resolv_conf(folder: Path) -> str:
    return (folder / "resolv.conf").read_text()


def hosts(folder: Path) -> list[str]:
    """Return the lines of hosts that are not in everybody's."""
    lines = (folder / "hosts").read_text().splitlines(keepends=True)
    return [line for line in lines if line not in files._OWN_HOSTS.splitlines(keepends=True)]


def test_without_a_network_its_name_is_its_own_loopback(folder: Path) -> None:
    where = write_files(folder, ContainerOptions(network="none"), "box")
    assert where["/etc/hosts"] == str(folder / "hosts")
    assert hosts(folder) == ["127.0.0.1\tbox\n"]
    assert resolv_conf(folder) == ""
    assert (folder / "hostname").read_text() == "box\n"


def test_on_a_network_of_names_the_engine_answers(folder: Path) -> None:
    write_files(folder, ON_FRONT, "box")
    assert refresh_files(folder, ON_FRONT, "box", FRONT)
    assert resolv_conf(folder) == ("nameserver 127.0.0.11\nsearch corp.example\noptions ndots:0\n")
    assert hosts(folder) == ["10.9.0.2\tbox\n"]


def test_on_the_default_network_the_hosts_servers_are_asked(folder: Path) -> None:
    write_files(folder, ON_FRONT, "box")
    assert not refresh_files(folder, ON_FRONT, "box", BRIDGE)
    assert resolv_conf(folder) == "nameserver 192.0.2.1\nsearch corp.example\n"
    assert not refresh_files(folder, ON_FRONT, "box", BRIDGE._replace(ipv6=True))
    assert "nameserver 2001:db8::1\n" in resolv_conf(folder)


def test_systemds_stub_is_looked_behind(folder: Path) -> None:
    host(folder.parent, "nameserver 127.0.0.53\noptions edns0\n")
    host(folder.parent, "nameserver 192.0.2.9\nsearch lan\n", "behind.conf")
    refresh_files(folder, ON_FRONT, "box", BRIDGE)
    assert resolv_conf(folder) == "nameserver 192.0.2.9\nsearch lan\n"


def test_the_engine_answers_where_the_hosts_servers_are_out_of_reach(folder: Path) -> None:
    host(folder.parent, "nameserver 127.0.0.1\n")
    assert refresh_files(folder, ON_FRONT, "box", BRIDGE)
    assert resolv_conf(folder).startswith("nameserver 127.0.0.11\n")
    own = ContainerOptions(network="bridge", networks=ON_FRONT.networks, dns=("9.9.9.9",))
    assert not refresh_files(folder, own, "box", BRIDGE)
    assert resolv_conf(folder) == "nameserver 9.9.9.9\n"


def test_what_was_asked_for_takes_the_hosts_place(folder: Path) -> None:
    options = ContainerOptions(
        networks=ON_FRONT.networks, dns=("127.0.0.1",), dns_search=(".",), dns_options=("ndots:2",)
    )
    refresh_files(folder, options, "box", BRIDGE)
    assert resolv_conf(folder) == "nameserver 127.0.0.1\noptions ndots:2\n"
    refresh_files(folder, options, "box", FRONT)
    assert resolv_conf(folder) == "nameserver 127.0.0.11\noptions ndots:2\n"


def test_on_the_hosts_network_the_file_is_the_hosts(folder: Path) -> None:
    write_files(folder, ContainerOptions(network="host"), "box")
    assert resolv_conf(folder) == (folder.parent / "host.conf").read_text()
    other = folder.parent / "other"
    other.mkdir()
    write_files(other, ContainerOptions(network="host", dns_search=("x",)), "box")
    assert resolv_conf(other) == ("nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch x\n")


def test_every_network_has_its_line_and_a_domain_comes_first(folder: Path) -> None:
    options = ContainerOptions(networks=ON_FRONT.networks, domainname="lan")
    write_files(folder, options, "box")
    both = FRONT._replace(addresses=("10.9.0.2", "fd00::2"))
    refresh_files(folder, options, "box", both)
    assert hosts(folder) == ["10.9.0.2\tbox.lan box\n", "fd00::2\tbox.lan box\n"]
    refresh_files(folder, options, "box", FRONT)
    assert hosts(folder) == ["10.9.0.2\tbox.lan box\n"]


def test_hosts_that_are_added_and_the_hosts_gateway(folder: Path) -> None:
    options = ContainerOptions(
        networks=ON_FRONT.networks,
        extra_hosts=("db:192.0.2.5", "gate=host-gateway", "six=[fd00::5]"),
    )
    write_files(folder, options, "box")
    refresh_files(folder, options, "box", FRONT)
    assert hosts(folder) == [
        "192.0.2.5\tdb\n", "fd00::5\tsix\n", "10.9.0.1\tgate\n", "10.9.0.2\tbox\n",
    ]  # fmt: skip
    refresh_files(folder, options, "box", FRONT._replace(gateways=("10.8.0.1",)))
    assert "10.8.0.1\tgate\n" in hosts(folder)
    assert "10.9.0.1\tgate\n" not in hosts(folder)
    with pytest.raises(InvalidArgumentError, match="host-gateway"):
        refresh_files(folder, options, "box", FRONT._replace(gateways=()))


def test_what_the_container_wrote_into_hosts_stays(folder: Path) -> None:
    write_files(folder, ON_FRONT, "box")
    refresh_files(folder, ON_FRONT, "box", FRONT)
    before = (folder / "hosts").stat().st_ino
    with (folder / "hosts").open("a") as file:
        file.write("192.0.2.6 mine\r\n\xff without an end")
    refresh_files(folder, ON_FRONT, "box", FRONT._replace(addresses=("10.9.0.7",)))
    text = (folder / "hosts").read_bytes().decode()
    assert text.endswith("192.0.2.6 mine\r\n\xff without an end\n10.9.0.7\tbox\n")
    assert "10.9.0.2" not in text
    assert (folder / "hosts").stat().st_ino == before  # it may be mounted


def test_a_resolv_conf_that_the_container_changed_is_left_alone(folder: Path) -> None:
    write_files(folder, ON_FRONT, "box")
    refresh_files(folder, ON_FRONT, "box", BRIDGE)
    refresh_files(folder, ON_FRONT, "box", FRONT)
    assert "127.0.0.11" in resolv_conf(folder)
    (folder / "resolv.conf").write_text("nameserver 192.0.2.77\n")
    refresh_files(folder, ON_FRONT, "box", BRIDGE)
    assert resolv_conf(folder) == "nameserver 192.0.2.77\n"


def test_a_death_between_the_two_writes_is_no_change_of_the_containers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(folder, ON_FRONT, "box")
    refresh_files(folder, ON_FRONT, "box", BRIDGE)
    write = files._write

    def die(path: Path, text: str) -> None:
        if path.suffix != ".made":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(files, "_write", die)
    with pytest.raises(KeyboardInterrupt):
        files._replace_lines(folder / "hosts", "10.9.0.2\tbox\n")
    with pytest.raises(KeyboardInterrupt):
        files._replace_unless_changed(folder / "resolv.conf", "nameserver 127.0.0.11\n")
    monkeypatch.setattr(files, "_write", write)
    refresh_files(folder, ON_FRONT, "box", FRONT._replace(addresses=("10.9.0.9",)))
    assert "127.0.0.11" in resolv_conf(folder)
    assert hosts(folder) == ["10.9.0.9\tbox\n"]


@pytest.mark.parametrize(
    "options",
    [
        ContainerOptions(dns=("one.example",)),
        ContainerOptions(dns_search=("a b",)),
        ContainerOptions(dns_options=("a\nnameserver 1.2.3.4",)),
        ContainerOptions(extra_hosts=("name",)),
        ContainerOptions(extra_hosts=("name:300.1.1.1",)),
        ContainerOptions(extra_hosts=("a\tb:1.1.1.1",)),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, options: ContainerOptions) -> None:
    with pytest.raises(InvalidArgumentError):
        write_files(folder, options, "box")
