"""The library by which rules are set: what it refuses, what it leaves, and where it is missing."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.kernel import nftables
from orlop.kernel.nftables import Nftables
from orlop.network.firewall.firewall import Firewall
from orlop.network.firewall.state import FirewallState, NetworkRules
from tests.integration.firewall import lab as labs
from tests.integration.firewall.conftest import NETWORKS, TABLE, port
from tests.integration.firewall.lab import HOST, Lab, Place


@pytest.fixture
def place() -> Iterator[Place]:
    with closing(Place()) as made:
        yield made


def test_commands_are_one_transaction(place: Place) -> None:
    with place, closing(Nftables()) as nft:
        with pytest.raises(FileNotFoundError, match=r"nftables: .*No such file or directory$"):
            nft.run("add table inet one\nadd element inet nothing here { 1 }\n")
        with pytest.raises(OSError, match=r"nftables: syntax error, .*[^\n]$"):
            nft.run("add table inet one\nnonsense\n")
        assert labs.run("nft list ruleset") == ""
        nft.run("add table inet one\n")
        with pytest.raises(FileNotFoundError, match="did you mean table"):
            nft.run("add element inet ones here { 1 }\n")
        with pytest.raises(FileExistsError):
            nft.run("create table inet one\n")


def test_a_context_stays_with_the_namespace_it_was_made_in(place: Place) -> None:
    with closing(Place()) as other, place, closing(Nftables()) as nft:
        with other:
            nft.run("add table inet here\n")
            assert labs.run("nft list tables") == ""
        assert labs.run("nft list tables") == "table inet here\n"


def test_each_thread_may_have_a_context_of_its_own(place: Place) -> None:
    failures: list[BaseException] = []

    def work(number: int, nft: Nftables) -> None:
        try:
            for _ in range(50):
                nft.run(f"add table inet t{number}\ndelete table inet t{number}\n")
        except BaseException as error:  # told by the test
            failures.append(error)

    with place:
        contexts = [Nftables() for _ in range(3)]
    assert len({nft.port for nft in contexts}) == 3
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(contexts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for nft in contexts:
        nft.close()
        nft.close()
    assert failures == []


_CROWDED = """
import errno, os, resource, sys
from orlop.kernel import low_descriptors, nftables
if sys.argv[1] == "kept":
    low_descriptors.keep(2)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
files = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
try:
    for _ in range(3):
        pair = nftables.Nftables(), nftables.Nftables()
        pair[0].run("add table inet one")
        pair[1].run("delete table inet one")
        for nft in pair:
            nft.close()
except OSError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ("how", "said"), [("kept", ""), ("none", "nftables: no descriptor below 1024 is free")]
)
def test_a_process_with_over_1024_open_files_does_not_abort(
    place: Place, how: str, said: str
) -> None:
    with place:
        done = subprocess.run(
            [sys.executable, "-c", _CROWDED, how], capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, said in done.stderr) == (bool(said), True), done.stderr


def test_many_changes_take_no_memory_and_no_descriptors(lab: Lab, firewall: Firewall) -> None:
    def change(times: int) -> None:
        with lab.host:
            for _ in range(times):
                firewall.publish([port("a", 8080)])
                firewall.withdraw([port("a", 8080)])

    change(300)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(os.listdir("/proc/self/fd"))
    change(2000)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(os.listdir("/proc/self/fd"))
    assert after[0] - before[0] < 2048
    assert after[1] == before[1]


def test_without_the_library_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nftables._library.cache_clear()
    monkeypatch.setattr(nftables, "_LIBRARY", "libnftables.so.none")
    with pytest.raises(UnsupportedError, match="install Debian's package libnftables1"):
        Nftables()


@pytest.mark.parametrize(
    "bad",
    [
        NetworkRules("n", 'x" }; flush', ("10.0.0.0/8",)),
        NetworkRules("n", "x*", ("10.0.0.0/8",)),
        NetworkRules("n", "", ("10.0.0.0/8",)),
        NetworkRules("n", "x", ("10.0.0.0/8 }; flush ruleset",)),
        NetworkRules("n", "x", ("10.0.0.1/8",)),
        NetworkRules("n", "x", ("fd00::%x }; flush ruleset;#/64",)),
    ],
)
def test_no_name_or_address_can_say_more_than_it_is(
    lab: Lab, firewall: Firewall, bad: NetworkRules
) -> None:
    with lab.host:
        before = labs.run(f"nft list table {TABLE}")
        with pytest.raises(InvalidArgumentError):
            firewall.add_network(bad)
        for worse in (
            port("a", 70000),
            port("a", 80)._replace(address="10.0.0.1 . 80 } ; flush ruleset"),
            port("a", 80, host_ip="::"),
            port("a", 80)._replace(protocol="tcp . 1"),  # type: ignore[arg-type]  # on purpose
        ):
            with pytest.raises(InvalidArgumentError):
                firewall.publish([worse])
        assert labs.run(f"nft list table {TABLE}") == before
        assert firewall.state == FirewallState(NETWORKS)


def test_a_connection_outlives_new_rules_and_a_new_engine(
    lab: Lab, firewall: Firewall, tmp_path: Path
) -> None:
    with lab.host:
        firewall.publish([port("a", 8080)])
    with (
        labs.listening(lab.containers["a"], "tcp", 4, 80) as server,
        lab.neighbour,
        labs.make_socket("tcp", 4) as caller,
    ):
        caller.connect((HOST[4], 8080))
        answering, _ = server.accept()
        with answering:
            answering.settimeout(labs.PATIENCE_S)
            for interruption in ("", "nft flush ruleset", f"nft delete table {TABLE}"):
                with lab.host, closing(Firewall("0123abcd", tmp_path)) as again:
                    if interruption:
                        labs.run(interruption)
                    again.apply(firewall.state)
                caller.send(b"ping")
                assert answering.recv(4) == b"ping"
                answering.send(b"pong")
                assert caller.recv(4) == b"pong"
