"""What sandboxes use one after the other, on the kernel itself: nothing of the last is left."""

import contextlib
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orlop.kernel.namespaces import Namespace, setns
from orlop.model.oci import Resources
from orlop.model.pool import ObjectPool
from orlop.runtime import cgroups
from orlop.runtime.cgroups.layout import Layout, detect
from orlop.runtime.cgroups.pools import RecycledCgroups, sweep
from orlop.runtime.cgroups.reusable import Group
from orlop.runtime.networks import Network, Sysctls
from orlop.runtime.networks import pool as network_pool
from tests.integration.cgroups.members import run_inside, sleeping
from tests.integration.sandbox.faces import wait_until

_KIND, _WANTED = "kind", Resources(pids={"limit": 7}, memory={"limit": 64 << 20})
_HOST = detect()
_BESIDE = bool(_HOST.v1 and _HOST.unified)
_SYSCTLS = (("net/ipv4/ip_default_ttl", "77"),)


@pytest.fixture
def parent() -> Iterator[str]:
    path = f"/orlop-test-{uuid.uuid4().hex[:8]}"
    yield path
    left = cgroups.open(path)
    left.kill()
    left.remove()


@pytest.fixture(params=["host", "v2 alone"] if _BESIDE else ["host"])
def layout(request: pytest.FixtureRequest) -> Layout:
    """That of this host, and of a hybrid one its v2 half, whose root is not ours to change."""
    if request.param == "host":
        return _HOST
    assert _HOST.unified is not None
    return Layout((), _HOST.unified._replace(controllers=frozenset()))


@pytest.fixture
def wanted(layout: Layout) -> Resources:
    return _WANTED if "memory" in layout.controllers else Resources()


@pytest.fixture
def pool(parent: str, layout: Layout) -> Iterator[RecycledCgroups]:
    made = RecycledCgroups(parent, size=2, layout=layout)
    yield made
    made.pool.close()
    assert _names(parent) == set()


def _names(parent: str) -> set[str]:
    places = (Path(f"{h.mountpoint}{parent}") for h in detect().hierarchies)
    return {p.name for place in places if place.exists() for p in place.iterdir() if p.is_dir()}


def _burn(megabytes: int = 8) -> int:
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    return len(bytearray(megabytes << 20)) and 0


def test_a_cgroup_is_used_again_and_counts_anew(pool: RecycledCgroups, wanted: Resources) -> None:
    first = pool.take(_KIND, wanted)
    assert run_inside(first.cgroup, lambda: _burn(40)) == 0
    used = first.usage()
    assert used.user_ns + used.system_ns > 40_000_000
    assert used.peak_bytes is None or used.peak_bytes > 40 << 20
    _await_return(pool, first)
    again = pool.take(_KIND, wanted)
    assert again is first
    anew = again.usage()
    assert anew.user_ns + anew.system_ns < 20_000_000
    assert anew.peak_bytes is None or anew.peak_bytes < 8 << 20
    assert run_inside(again.cgroup, _burn) == 0
    again.shelve()  # closed and opened again, it counts on
    used = again.usage()
    assert used.user_ns + used.system_ns > 40_000_000
    assert used.peak_bytes is None or 8 << 20 < used.peak_bytes < 40 << 20
    again.remove()


@pytest.mark.skipif(not _HOST.v1, reason="v2 has no counters that can be set back")
def test_a_cgroup_shows_its_next_user_no_counter_that_can_be_set_back(parent: str) -> None:
    pool = RecycledCgroups(parent)
    group = pool.take(_KIND, _WANTED)
    memory = _folder(group, "memory")
    assert run_inside(group.cgroup, lambda: _burn(40)) == 0
    _await_return(pool, group)
    assert pool.take(_KIND, _WANTED) is group
    for kind in ("", ".memsw", ".kmem"):
        peak = Path(f"{memory}/memory{kind}.max_usage_in_bytes")
        failures = Path(f"{memory}/memory{kind}.failcnt")
        assert not peak.exists() or int(peak.read_text()) < 1 << 20, kind
        assert not failures.exists() or int(failures.read_text()) == 0, kind
    for file in Path(_folder(group, "cpuacct")).glob("cpuacct.usage*"):
        assert sum(map(int, re.findall(r"\d{6,}", file.read_text()))) == 0, file
    for file in Path(_folder(group, "blkio")).glob("blkio.*.io_service*"):
        assert not re.search(r"[1-9]\d*$", file.read_text(), re.M), file
    assert Path(f"{_folder(group, 'pids')}/pids.events").read_text() == "max 0\n"
    group.remove()


def _fork_too_often() -> int:
    with contextlib.suppress(BlockingIOError):
        for _ in range(9):
            if os.fork() == 0:
                signal.pause()
    return 0


def _allocate_too_much() -> int:
    return len(bytearray(80 << 20)) and 0


def _burn_too_much(group: Group) -> int:
    while "nr_throttled 0\n" in Path(f"{_folder(group, 'cpu')}/cpu.stat").read_text():
        _burn()
    return 0


def _write_a_file(folder: Path) -> int:
    (folder / "file").write_bytes(bytes(4 << 20))
    return 0


@pytest.mark.skipif(not {"pids", "memory", "cpu"} <= _HOST.controllers, reason="needs controllers")
@pytest.mark.parametrize("what", ["processes", "memory", "processor", "files"])
def test_a_cgroup_that_has_counted_for_good_is_not_used_again(
    parent: str, tmp_path: Path, what: str
) -> None:
    work: dict[str, Callable[[Group], int]] = {
        "processes": lambda _: _fork_too_often(),
        "memory": lambda _: _allocate_too_much(),
        "processor": _burn_too_much,
        "files": lambda _: _write_a_file(tmp_path),
    }
    pool = RecycledCgroups(parent)
    group = pool.take(_KIND, _WANTED | Resources(cpu={"quota": 20_000, "period": 100_000}))
    run_inside(group.cgroup, lambda: work[what](group))
    group.cgroup.kill()
    _await_return(pool, group)
    assert pool.pool.waiting == 0
    assert _names(parent) == set()


def _burn_for_three_periods() -> int:
    for _ in range(6):
        _burn()
    return 0


@pytest.mark.skipif("cpu" not in _HOST.controllers, reason="needs a controller cpu")
def test_periods_of_a_quota_are_counted_for_each_user(parent: str) -> None:
    pool = RecycledCgroups(parent)
    wanted = Resources(cpu={"quota": 10_000_000, "period": 100_000})
    group = pool.take(_KIND, wanted)
    assert run_inside(group.cgroup, _burn_for_three_periods) == 0
    assert group.usage().periods > 0
    _await_return(pool, group)
    assert pool.take(_KIND, wanted) is group
    assert group.usage().periods <= 1  # the kernel counts on until the period's end
    group.remove()


def test_a_cgroup_is_not_given_to_others_while_somebody_is_in_it(
    pool: RecycledCgroups, wanted: Resources
) -> None:
    group = pool.take(_KIND, wanted)
    with sleeping(group.cgroup):
        assert not pool.give_back(_KIND, group)
        other = pool.take(_KIND, wanted)
        assert other is not group
    _await_return(pool, group)
    _await_return(pool, other)


def _await_return(pool: RecycledCgroups, group: Group) -> None:
    """Give it back; the kernel lets go of who has ended when it comes to it."""
    wait_until(lambda: pool.give_back(_KIND, group), "it does not get empty")


def test_cgroups_below_it_go_once_nobody_is_in_them(
    pool: RecycledCgroups, wanted: Resources
) -> None:
    group = pool.take(_KIND, wanted)
    for directory in group.cgroup.directories.values():
        if "cpuset" not in directory:
            os.makedirs(f"{directory}/below/deeper")
    below = cgroups.open(f"{group.cgroup.path}/below")
    place = f"{group.cgroup.directories['']}/below"
    with sleeping(group.cgroup) as pid:
        Path(f"{place}/cgroup.procs").write_text(str(pid))
        assert not pool.give_back(_KIND, group)
    _await_return(pool, group)
    assert not any(os.path.exists(directory) for directory in below.directories.values())


def test_a_frozen_cgroup_runs_for_its_next(pool: RecycledCgroups, wanted: Resources) -> None:
    group = pool.take(_KIND, wanted)
    group.cgroup.freeze()
    assert pool.give_back(_KIND, group)
    assert pool.take(_KIND, wanted) is group
    assert run_inside(group.cgroup, lambda: 5) == 5
    group.remove()


@pytest.mark.parametrize("why", ["changed", "forgotten", "too many"])
def test_a_cgroup_that_is_of_no_use_is_removed(
    pool: RecycledCgroups, wanted: Resources, parent: str, why: str
) -> None:
    groups = [pool.take(_KIND, wanted) for _ in range(3)]
    if why == "forgotten":
        pool.pool.forget(_KIND)
    for group in groups:
        group.changed = why == "changed"
        assert pool.give_back(_KIND, group)
    assert pool.pool.waiting == (2 if why == "too many" else 0)
    assert len(_names(parent)) == pool.pool.waiting


def test_a_cgroup_that_somebody_has_removed_is_not_kept(
    pool: RecycledCgroups, wanted: Resources
) -> None:
    group = pool.take(_KIND, wanted)
    for directory in group.cgroup.directories.values():
        os.rmdir(directory)
    assert pool.give_back(_KIND, group)
    assert pool.pool.waiting == 0


@pytest.mark.skipif("pids" not in _HOST.controllers, reason="needs a controller pids")
def test_each_kind_has_cgroups_of_its_own(parent: str) -> None:
    pool = RecycledCgroups(parent)
    one = pool.take(_KIND, _WANTED)
    assert pool.give_back(_KIND, one)
    other = pool.take("other", {"pids": {"limit": 9}})
    assert other is not one
    assert Path(f"{_folder(other, 'pids')}/pids.max").read_text() == "9\n"
    assert pool.give_back("other", other)
    pool.pool.close()


def _folder(group: Group, controller: str) -> str:
    """Return where its files of a controller are: v2's are in the one folder."""
    found = group.cgroup.directories
    named = (place for names, place in found.items() if controller in names.split(","))
    return next(named, found.get("", ""))


def test_what_the_dead_have_left_is_swept_with_who_is_in_it(
    pool: RecycledCgroups, layout: Layout, wanted: Resources, parent: str
) -> None:
    living = pool.take(_KIND, wanted)
    reader, writer = os.pipe()
    owner = os.fork()
    if not owner:
        try:
            group = RecycledCgroups(parent, layout=layout).take(_KIND, wanted)
            run_inside(group.cgroup, lambda: os.write(writer, b"%d" % _left_behind()) and 0)
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(owner, 0)
    with os.fdopen(reader) as told:
        left = int(told.read())
    assert len(_names(parent)) == 2
    sweep(parent, layout)
    assert _names(parent) == {os.path.basename(living.cgroup.path)}
    assert not Path(f"/proc/{left}/exe").exists()
    living.remove()


def _left_behind() -> int:
    """Start a process that nobody waits for."""
    pid = os.fork()
    if not pid:
        os.closerange(0, 256)
        time.sleep(1000)
        os._exit(0)
    return pid


@pytest.fixture
def networks() -> Iterator[ObjectPool[Network]]:
    before = len(os.listdir("/proc/self/fd"))
    made = network_pool(size=2, ahead=1)
    yield made
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


def _inside(network: Network, act: Callable[[], object]) -> None:
    """Do it in the namespace, in a process of its own, which has ended afterwards."""
    pid = os.fork()
    if not pid:
        try:
            setns(network.fd, Namespace.NET)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _take(networks: ObjectPool[Network], sysctls: Sysctls) -> Network:
    return networks.get(sysctls, lambda: Network(sysctls))


def _own() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def _bind() -> None:
    with socket.socket() as one, socket.socket(socket.AF_UNIX) as other:
        one.bind(("127.0.0.1", 80))
        one.listen()
        other.bind("\0name")


def _send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", 9))


def test_a_network_in_which_nothing_was_sent_is_used_again(networks: ObjectPool[Network]) -> None:
    before = _own()
    network = _take(networks, _SYSCTLS)
    assert _own() == before
    _inside(network, _bind)
    networks.give_back(network, network.sysctls, reusable=True)
    assert _take(networks, _SYSCTLS) is network
    _inside(network, _has_its_settings)
    networks.give_back(network, network.sysctls, reusable=False)
    assert networks.waiting == 0


def _has_its_settings() -> None:
    path, value = _SYSCTLS[0]
    assert Path(f"/proc/sys/{path}").read_text() == f"{value}\n"
    assert [name for _, name in socket.if_nameindex()] == ["lo"]


def test_a_network_in_which_something_was_sent_is_not(networks: ObjectPool[Network]) -> None:
    network = _take(networks, ())
    _inside(network, _send)
    networks.give_back(network, network.sysctls, reusable=True)
    assert networks.waiting == 0


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_network_of_which_a_socket_is_left_is_not(
    networks: ObjectPool[Network], family: socket.AddressFamily
) -> None:
    network = _take(networks, ())
    ours, theirs = socket.socketpair()

    def hand_out() -> None:
        with socket.socket(family) as one:
            socket.send_fds(theirs, [b"x"], [one.fileno()])

    with ours, theirs:
        _inside(network, hand_out)
        networks.give_back(network, network.sysctls, reusable=True)  # while it is on its way
        assert networks.waiting == 0


def test_networks_that_nobody_asks_for_are_let_go(networks: ObjectPool[Network]) -> None:
    used = [_take(networks, _SYSCTLS) for _ in range(4)]
    for network in used[:3]:
        networks.give_back(network, network.sysctls, reusable=True)
    assert networks.waiting == 2
    while networks.refill():
        pass
    networks.forget(_SYSCTLS)
    networks.give_back(used[3], used[3].sysctls, reusable=True)
    assert networks.waiting == 0
    assert not networks.refill()


def test_networks_are_made_ahead_for_who_has_asked_before(networks: ObjectPool[Network]) -> None:
    assert not networks.refill()
    network = _take(networks, ())
    while networks.refill():
        pass
    assert networks.waiting == 1
    networks.give_back(network, network.sysctls, reusable=False)
