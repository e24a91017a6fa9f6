"""CNI's documents: versions, results in each, configurations, names, addresses."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    UnsupportedError,
)
from orlop.model.network import Bandwidth, PortMapping
from orlop.network.cni import configuration, failure, result, versions
from orlop.network.cni.capabilities import Names, Range, Wishes, arguments
from orlop.network.cni.plugin import leases
from orlop.network.cni.result import Address, Dns, Interface, Result, Route
from tests.imports import modules_after

FULL = Result(
    (
        Interface("br0", "02:00:00:00:00:01", 1500),
        Interface("eth0", "02:00:00:00:00:02", 1400, "/ns", "/socket", "0000:00:1f.6"),
    ),
    (Address("10.0.0.2/24", "10.0.0.1", 1), Address("fd00::2/64", "fd00::1", 1)),
    (Route("0.0.0.0/0", "10.0.0.1", 1300, 1200, 5, 100, 253), Route("::/0")),
    Dns(("10.0.0.1",), "a.test", ("b.test",), ("ndots:2",)),
)


@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_a_result_survives_its_own_version(version: str) -> None:
    document = json.loads(json.dumps(result.render(FULL, version)))
    assert document["cniVersion"] == version
    again = result.parse(document, where="x")
    assert again.ips == FULL.ips
    assert again.dns == FULL.dns
    if version == "1.1.0":
        assert again == FULL
    else:
        assert again.routes == tuple(Route(route.dst, route.gw) for route in FULL.routes)
        assert again.interfaces == tuple(
            one._replace(mtu=0, socket_path="", pci_id="") for one in FULL.interfaces
        )


def test_addresses_say_their_family_before_1_0() -> None:
    for version in versions.SUPPORTED:
        families = [ip.get("version") for ip in result.render(FULL, version)["ips"]]
        assert families == (["4", "6"] if version < "1" else [None, None])


KEYS = ["interfaces", "ips", "routes", "dns", "name", "mac", "address", "dst", "gw", "interface"]
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "interfaces",
                    "ips",
                    "routes",
                    "dns",
                    "name",
                    "mac",
                    "address",
                    "dst",
                    "gw",
                    "interface",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(documents)
def test_any_document_is_a_result_or_a_clear_error(document: Any) -> None:
    try:
        told = result.parse(document, where="CNI plugin x")
    except CorruptError as error:
        told, text = Result(), str(error)
    else:
        text = "CNI plugin x: "
    assert text.startswith("CNI plugin x: ")
    for version in versions.SUPPORTED:
        result.render(told, version)


@given(documents)
def test_any_document_is_a_network_or_a_clear_error(document: Any) -> None:
    for one in (document, {"name": "n", "cniVersion": "1.0.0", "plugins": document}):
        with contextlib.suppress(OrlopError):
            configuration.parse(one)


def test_the_newest_version_that_both_have() -> None:
    def version(**keys: Any) -> str:
        document = {"name": "n", "plugins": [{"type": "x"}], **keys}
        return configuration.parse(document).version

    assert version(cniVersion="0.4.0") == "0.4.0"
    assert version(cniVersion="0.4.0", cniVersions=["1.0.0", "7.0.0"]) == "1.0.0"
    assert version(cniVersions=["1.1.0", "0.3.1"]) == "1.1.0"
    for old in ({}, {"cniVersion": "0.2.0"}):
        with pytest.raises(UnsupportedError, match="network n is of CNI version 0"):
            version(**old)
    with pytest.raises(InvalidArgumentError, match="'one' is not a version"):
        version(cniVersion="one")


def write(folder: Path, name: str, document: Any) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def test_a_folder_of_configurations(tmp_path: Path) -> None:
    base = {"cniVersion": "1.0.0"}
    write(tmp_path, "30-b.conflist", {**base, "name": "b", "plugins": [{"type": "x"}]})
    write(tmp_path, "10-a.conf", {**base, "name": "a", "type": "y", "mtu": 9})
    write(tmp_path, "20-bad.conflist", "{")
    write(tmp_path, "21-bad.conf", {**base, "name": "../e", "type": "y"})
    write(tmp_path, "40-a.json", {**base, "name": "a", "type": "z"})
    write(tmp_path, "50-other.txt", "not looked at")
    loaded = configuration.load(tmp_path)
    assert list(loaded.networks) == ["a", "b"]
    assert loaded.networks["a"].plugins[0]["type"] == "y"
    assert [problem.split(":")[0].rpartition("/")[2] for problem in loaded.problems] == [
        "20-bad.conflist", "21-bad.conf", "40-a.json",
    ]  # fmt: skip
    assert configuration.find(tmp_path, "").name == "a"
    with pytest.raises(NotFoundError, match=r"there is no CNI network c in .*20-bad"):
        configuration.find(tmp_path, "c")
    assert configuration.load(tmp_path / "none") == configuration.Loaded({}, [])


def test_plugins_in_a_folder_beside_the_list(tmp_path: Path) -> None:
    document = {"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "a"}]}
    write(tmp_path / "n", "2.conf", {"type": "c"})
    write(tmp_path / "n", "1.conf", {"type": "b"})
    write(tmp_path / "n", "3.txt", {"type": "d"})
    write(tmp_path, "n.conflist", document)
    loaded = configuration.load_file(tmp_path / "n.conflist")
    assert [plugin["type"] for plugin in loaded.plugins] == ["a", "b", "c"]
    write(tmp_path, "n.conflist", {**document, "loadOnlyInlinedPlugins": True})
    loaded = configuration.load_file(tmp_path / "n.conflist")
    assert [plugin["type"] for plugin in loaded.plugins] == ["a"]
    assert configuration.parse(loaded.document()) == loaded
    write(tmp_path, "n.conflist", {"cniVersion": "1.1.0", "name": "n"})
    loaded = configuration.load_file(tmp_path / "n.conflist")
    assert [plugin["type"] for plugin in loaded.plugins] == ["b", "c"]
    write(tmp_path / "n", "0.conf", {"type": "../../bin/sh"})
    with pytest.raises(InvalidArgumentError, match=r"n\.conflist: plugins\[0\]\.type"):
        configuration.load_file(tmp_path / "n.conflist")


def test_what_a_plugin_gets() -> None:
    plugin = {
        "type": "x",
        "capabilities": {"mac": True, "ips": False},
        "args": {"a": 1},
        "runtimeConfig": {"old": 1},
        "cni.dev/own": 1,
        "unknown": [1],
    }
    network = configuration.parse({"cniVersion": "1.0.0", "name": "n", "plugins": [plugin]})
    told = {"mac": "m", "ips": ["i"], "aliases": ["a"]}
    assert network.for_plugin(network.plugins[0], told, {"ips": []}) == {
        "type": "x", "args": {"a": 1}, "unknown": [1], "name": "n", "cniVersion": "1.0.0",
        "runtimeConfig": {"mac": "m"}, "prevResult": {"ips": []},
    }  # fmt: skip


def test_capabilities_in_the_words_of_the_conventions() -> None:
    assert arguments(Wishes()) == {}
    told = arguments(
        Wishes(
            ports=[PortMapping(protocol="udp", container_port=1, host_port=2, host_ip="::1")],
            bandwidth=Bandwidth(ingress_bps=100_000_000, egress_bps=8, egress_burst_bits=9),
            addresses=["10.0.0.1/24"],
            mac="m",
            names=Names(["s"], ["d"], ["o"]),
            aliases=["a"],
            ranges=[[Range("10.0.0.0/24", "10.0.0.5")]],
            cgroup="/c",
        )
    )
    assert told == {
        "portMappings": [
            {"hostPort": 2, "containerPort": 1, "protocol": "udp", "hostIP": "::1"}
        ],
        "bandwidth": {
            "ingressRate": 100_000_000, "ingressBurst": 10_000_000,
            "egressRate": 8, "egressBurst": 9,
        },
        "ips": ["10.0.0.1/24"],
        "mac": "m",
        "dns": {"servers": ["s"], "searches": ["d"], "options": ["o"]},
        "aliases": ["a"],
        "ipRanges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.5"}]],
        "cgroupPath": "/c",
    }  # fmt: skip


def test_error_of_a_delegate_is_told_in_its_own_words() -> None:
    told = failure.told("x", {"code": 120, "msg": "no", "details": "because"})
    assert told is not None
    error = failure.raised(told, "ADD")
    assert str(error) == "CNI plugin x refused ADD: no; because"
    assert failure.document(error, "1.0.0") == {
        "cniVersion": "1.0.0", "code": 120, "msg": "no", "details": "because",
    }  # fmt: skip
    assert failure.told("x", {"code": True}) is None
    assert failure.told("x", {"msg": "no number"}) is None


def ranges(**keys: str) -> list[list[leases.Range]]:
    return [[leases.parse_range(keys)]]


def test_leases_go_round_and_are_given_back(tmp_path: Path) -> None:
    pool = leases.Leases("n", str(tmp_path))
    own = ranges(subnet="10.0.0.0/29")

    def take(owner: str) -> str:
        ((one, value),) = pool.take(owner, own)
        return one.text(value)

    assert [take(f"c{n}@e") for n in range(5)] == [f"10.0.0.{n}" for n in range(2, 7)]
    assert pool.is_full(own)
    with pytest.raises(ExhaustedError, match=r"no address is left in 10\.0\.0\.0/29"):
        take("more@e")
    pool.release(lambda owner: owner == "c1@e")
    assert take("c1@e") == "10.0.0.3"
    pool.release(lambda owner: owner in ("c0@e", "c4@e"))
    assert [take("x@e"), take("y@e")] == ["10.0.0.6", "10.0.0.2"]
    assert leases.Leases("n", str(tmp_path)).of("c2@e") == ["10.0.0.4"]


def test_addresses_are_taken_all_or_none(tmp_path: Path) -> None:
    pool = leases.Leases("n", str(tmp_path))
    both = [*ranges(subnet="fd00::/64"), *ranges(subnet="10.0.0.0/30")]
    assert len(pool.take("a@e", both)) == 2
    with pytest.raises(ExhaustedError):
        pool.take("b@e", both)
    assert pool.of("b@e") == []
    with pytest.raises(AlreadyExistsError, match="address fd00::2 is given out already"):
        pool.take("b@e", both, ["fd00::2"])
    with pytest.raises(InvalidArgumentError, match=r"10\.9\.0\.1: not in any range"):
        pool.take("b@e", ranges(subnet="fd00::/64"), ["10.9.0.1"])
    with pytest.raises(InvalidArgumentError, match="not in any range"):
        pool.take("b@e", ranges(subnet="fd00::/64"), ["fd00::1"])
    assert pool.of("b@e") == []


def test_a_lease_that_was_half_remembered_does_not_stop_the_next(tmp_path: Path) -> None:
    pool = leases.Leases("n", str(tmp_path))
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "last.0.new").symlink_to("10.0.0.9")
    (tmp_path / "n" / "last.0").symlink_to("garbage")
    pool.take("a@e", ranges(subnet="10.0.0.0/24"))
    assert pool.of("a@e") == ["10.0.0.2"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, "no subnet"),
        ({"subnet": "10.0.0.0"}, "no prefix length"),
        ({"subnet": "10.0.0.1/24"}, "host bits"),
        ({"subnet": "10.0.0.0/31"}, "too small"),
        ({"subnet": "10.0.0.0/24", "rangeStart": "10.1.0.1"}, "is not in"),
        ({"subnet": "10.0.0.0/24", "gateway": "fd00::1"}, "no address of"),
        (
            {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"},
            "ends before",
        ),
        ({"subnet": "10.0.0.0/99"}, "is not an address"),
    ],
)
def test_bad_ranges(keys: dict[str, str], reason: str) -> None:
    with pytest.raises(OrlopError, match=reason):
        leases.parse_range(keys)


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        (
            "from orlop.programs.cni import main; main.answered({'CNI_COMMAND': 'VERSION'}, b'')",
            "ctypes re json enum typing socket contextlib",
        ),
        (
            "from orlop.network.cni.plugin import interface; from orlop.network import bridge",
            "msgspec re json typing socket hashlib ipaddress pathlib subprocess logging",
        ),
    ],
)
def test_the_plugin_imports_little(statement: str, forbidden: str) -> None:
    assert set(forbidden.split()) & modules_after(statement) == set()
