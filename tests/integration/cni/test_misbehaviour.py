"""Plugins that hang, lie, shout or fail; and runtimes that die while one works."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    UnavailableError,
)
from orlop.network.cni import configuration
from orlop.network.cni.cache import Key
from orlop.network.cni.failure import failure_of
from orlop.network.cni.runtime import Attachment
from tests.integration.cni.setup import BRIDGE, DEBIAN, Setup, chain
from tests.integration.cni.test_chains import FIREWALL, PORTMAP, leases, rules

KEY = Key("net", "one", "eth0")
#: Run in a process of its own, to be killed.
ADD = """
import json, sys
from pathlib import Path
from orlop.network.cni import configuration
from orlop.network.cni.runtime import Attachment, Cni
state, plugins, network, path = json.loads(sys.argv[1])
ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
cni = Cni(Path(state), plugins)
cni.add(configuration.parse(network), Attachment("one", path, "eth0", {}, ports))
"""


def in_a_process(setup: Setup, network: Any) -> "subprocess.Popen[bytes]":
    words = [
        str(setup.folder / "state"),
        [str(setup.own), DEBIAN],
        network.document(),
        setup.container("one").path,
    ]
    text = json.dumps(words)
    return setup.host(subprocess.Popen, [sys.executable, "-c", ADD, text])


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def nothing_left(setup: Setup) -> None:
    assert setup.container("one").links() == set()
    assert leases(setup) == []
    assert "10.9.0.2" not in rules(setup)
    assert "8080" not in rules(setup)
    assert setup.left() == []


def test_failed_add_is_undone_in_reverse_and_the_plugins_words_come_through(setup: Setup) -> None:
    log = setup.folder / "log"
    tell = f'echo "$(basename "$0") $CNI_COMMAND" >> {log}; '
    fine = setup.plugin("fine", tell + "sed 's/.*\"prevResult\"://; s/}}*$/}/' >/dev/null; echo {}")
    bad = setup.plugin(
        "bad",
        tell + 'test $CNI_COMMAND = ADD || exit 0; echo \'{"cniVersion":"1.0.0","code":11,'
        '"msg":"pool is empty","details":"all of 10.0.0.0/30"}\'; exit 1',
    )
    never = setup.plugin("never", tell + "echo {}")
    with pytest.raises(UnavailableError) as caught:
        setup.add(chain(BRIDGE, FIREWALL, fine, bad, never), "one")
    assert str(caught.value) == "CNI plugin bad refused ADD: pool is empty; all of 10.0.0.0/30"
    told = failure_of(caught.value)
    assert told is not None
    assert (told.plugin, told.code, told.message, told.details) == (
        "bad", 11, "pool is empty", "all of 10.0.0.0/30",
    )  # fmt: skip
    lines = log.read_text().split("\n")
    assert lines[:2] == ["fine ADD", "bad ADD"]
    assert lines[-3:] == ["bad DEL", "fine DEL", ""]


def test_failed_add_leaves_nothing(setup: Setup) -> None:
    bad = setup.plugin("bad", "test $CNI_COMMAND = ADD && exit 3; exit 0")
    with pytest.raises(OrlopError, match="CNI plugin bad failed at ADD with exit status 3, and"):
        setup.add(chain(BRIDGE, FIREWALL, bad), "one")
    nothing_left(setup)


def test_what_cannot_be_undone_is_told_and_tried_again(setup: Setup) -> None:
    bad = setup.plugin("bad", f"test -e {setup.folder}/well && exit 0; echo no >&2; exit 3")
    with pytest.raises(OrlopError, match=r"failed at ADD.*: no .*could not be undone: .*at DEL"):
        setup.add(chain(BRIDGE, bad), "one")
    assert setup.cni.attachments() == [KEY]
    (setup.folder / "well").touch()
    setup.delete(chain(BRIDGE, bad), "one")
    nothing_left(setup)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("", "printed nothing at ADD"),
        ("echo hello", "printed no JSON at ADD: not JSON: b'hello"),
        ("echo [1]", "printed no JSON object"),
        ("printf '{\"ips\": [{\"address\": \"10.0.0.256/24\"}]}'", "'10.0.0.256/24' is not an add"),
        ("echo '{\"ips\": 5}'", "ips is not a list of objects"),
        ('echo \'{"ips": [{"address": "10.0.0.1/24", "interface": 3}]}\'', "there is no interface"),
        ("echo '{\"routes\": [{\"dst\": \"10.0.0.1\"}]}'", "dst '10.0.0.1' has not a prefix"),
        ("head -c 3000000 /dev/zero", "printed more than 1 MiB"),
        ("cat /dev/zero", "printed more than 1 MiB"),
        ("printf '\\377\\376{'", "printed no JSON at ADD"),
    ],
)  # fmt: skip
def test_garbage_is_one_clear_sentence(setup: Setup, script: str, reason: str) -> None:
    bad = setup.plugin("bad", f"test $CNI_COMMAND = ADD || exit 0; {script}")
    with pytest.raises(CorruptError) as caught:
        setup.add(chain(BRIDGE, bad), "one")
    assert str(caught.value).startswith("CNI plugin bad")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    nothing_left(setup)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 7", "exit status 7, and said nothing"),
        ("kill -9 $$", "signal 9"),
        ("echo what happened >&2; exit 2", "exit status 2: what happened"),
        ('echo \'{"msg": "no number"}\'; exit 2', "exit status 2: .*no number"),
        ("head -c 9000000 /dev/zero | tr '\\0' x >&2; exit 2", "exit status 2: x{1000}$"),
    ],
)
def test_failure_without_words_of_cni(setup: Setup, script: str, reason: str) -> None:
    bad = setup.plugin("bad", f"test $CNI_COMMAND = ADD || exit 0; {script}")
    with pytest.raises(OrlopError, match=f"CNI plugin bad failed at ADD with {reason}"):
        setup.add(chain(bad), "one")


def test_what_hangs_is_killed_with_all_its_children(setup: Setup) -> None:
    setup.cni = setup.restarted(timeout_s=3)
    pids = setup.folder / "pids"
    bad = setup.plugin(
        "bad",
        f"test $CNI_COMMAND = ADD || exit 0; sleep 600 & (sleep 600 & echo $! >> {pids}; wait) &"
        f" echo $! >> {pids}; wait",
    )
    with pytest.raises(UnavailableError, match=r"bad did not end within 3 s, and was killed"):
        setup.add(chain(bad), "one")
    assert len(pids.read_text().split()) == 2
    assert not any(runs(int(pid)) for pid in pids.read_text().split())


def test_a_large_configuration_is_told_whole_and_need_not_be_heard(setup: Setup) -> None:
    size = 500_000
    counts = setup.plugin("counts", f"cat | wc -c > {setup.folder}/size; echo '{{}}'")
    deaf = setup.plugin("deaf", "echo '{}'")
    setup.add(chain({**counts, "x": "y" * size}, {**deaf, "x": "y" * size}), "one")
    assert int((setup.folder / "size").read_text()) > size


def test_endless_log_is_cut_and_keeps_nobody(setup: Setup) -> None:
    setup.cni = setup.restarted(timeout_s=1)
    loud = setup.plugin("loud", "test $CNI_COMMAND = ADD || exit 0; cat /dev/zero >&2")
    with pytest.raises(UnavailableError, match="loud did not end within 1 s"):
        setup.add(chain(loud), "one")


def test_plugin_of_a_runtime_that_dies_at_once_hears_nothing(setup: Setup) -> None:
    heard = setup.folder / "heard"
    spy = setup.plugin("spy", f"cat > {heard}.new; echo >> {heard}.new; mv {heard}.new {heard}")
    dies = "os.kill(os.getpid(), 9)"
    program = f"import os\nfrom orlop.network.cni import program\nbegan = lambda pid: {dies}\n"
    program += f"program.run({str(setup.own / spy['type'])!r}, os.environ, b'x', timeout_s=9, "
    program += "began=began)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    wait_for(heard)
    assert heard.read_text() == "\n"


def test_child_that_holds_the_pipe_keeps_nobody(setup: Setup) -> None:
    pid = setup.folder / "pid"
    forks = setup.plugin("forks", f"sleep 600 & echo $! > {pid}; echo '{{}}'")
    began = time.monotonic()
    setup.add(chain(forks), "one")
    assert time.monotonic() - began < 300, "it waited for the child, which sleeps for 600 s"
    for line in pid.read_text().split():
        os.kill(int(line), signal.SIGKILL)


@pytest.mark.parametrize("name", ["../../bin/sh", "/bin/sh", "..", "", "a\0b", 5, None])
def test_plugin_is_named_without_a_path(setup: Setup, name: Any) -> None:
    for plugin in ({"type": name}, {"type": "bridge", "ipam": {"type": name or "/"}}):
        with pytest.raises(InvalidArgumentError, match=r"plugins\[0\]\.(ipam\.)?type"):
            chain(plugin)


@pytest.mark.parametrize(
    ("container", "interface"),
    [
        ("", "eth0"), ("../x", "eth0"), ("-x", "eth0"), ("a b", "eth0"), ("a/b", "eth0"),
        ("x" * 101, "eth0"), ("one", ""), ("one", "."), ("one", ".."), ("one", "a/b"),
        ("one", "a:b"), ("one", "a b"), ("one", "x" * 16), ("one\n", "eth0"),
    ],
)  # fmt: skip
def test_names_are_checked_before_anything_is_run(
    setup: Setup, container: str, interface: str
) -> None:
    spy = setup.plugin("spy", f"touch {setup.folder}/ran; echo {{}}")
    with pytest.raises(InvalidArgumentError):
        setup.add(chain(spy), container, interface)
    with pytest.raises(InvalidArgumentError):
        setup.delete(chain(spy), container, interface)
    assert not (setup.folder / "ran").exists()
    assert setup.left() == []


def test_missing_plugin_and_one_that_is_no_program(setup: Setup) -> None:
    with pytest.raises(NotFoundError, match="there is no CNI plugin none in"):
        setup.add(chain({"type": "none"}), "two")
    (setup.own / "text").write_text("no program")
    (setup.own / "text").chmod(0o755)
    with pytest.raises(OrlopError, match="text cannot be run: exec format error"):
        setup.add(chain({"type": "text"}), "one")


def test_commands_for_one_container_take_turns(setup: Setup) -> None:
    log = setup.folder / "log"
    slow = setup.plugin("slow", f"echo b >> {log}; sleep 1; echo e >> {log}; echo {{}}")
    setup.container("one")
    threads = [
        threading.Thread(target=setup.cni.add, args=(chain(slow, name=name), attachment))
        for name, attachment in (("a", _attachment(setup, "e0")), ("b", _attachment(setup, "e1")))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.read_text().split() == ["b", "e", "b", "e"]


def _attachment(setup: Setup, interface: str) -> Any:
    return Attachment("one", setup.container("one").path, interface)


def test_collect_has_the_network_for_itself(setup: Setup) -> None:
    log = setup.folder / "log"
    slow = setup.plugin(
        "slow",
        f"echo $CNI_COMMAND >> {log}; test $CNI_COMMAND = ADD && sleep 0.3; echo end >> {log};"
        f" echo '{{}}'; cat > {setup.folder}/$CNI_COMMAND",
    )
    network = chain(slow, version="1.1.0")
    setup.container("one")
    adding = threading.Thread(target=setup.cni.add, args=(network, _attachment(setup, "eth0")))
    adding.start()
    wait_for(log)
    setup.cni.collect(network, [("one", "eth0")])
    adding.join()
    assert log.read_text().split() == ["ADD", "end", "GC", "end"]
    told = json.loads((setup.folder / "GC").read_text())
    valid = [{"containerID": "one", "ifname": "eth0"}]
    assert told["cni.dev/valid-attachments"] == told["cni.dev/attachments"] == valid
    assert "prevResult" not in told
    quiet = configuration.parse({**network.document(), "disableGC": True})
    setup.cni.collect(quiet, [])
    assert log.read_text().split()[4:] == ["DEL", "end"]


def test_status_is_asked_of_each_plugin(setup: Setup) -> None:
    fine = setup.plugin("fine", f"echo $CNI_COMMAND $CNI_CONTAINERID >> {setup.folder}/log")
    sick = setup.plugin("sick", 'echo \'{"code": 51, "msg": "no route", "details": "x"}\'; exit 1')
    with pytest.raises(UnavailableError, match="CNI plugin sick refused STATUS: no route; x"):
        setup.cni.status(chain(fine, sick, version="1.1.0"))
    assert (setup.folder / "log").read_text() == "STATUS\n"
    setup.cni.status(chain(fine, sick, version="1.0.0"))
    assert (setup.folder / "log").read_text() == "STATUS\n"


def test_busy_container_is_told_of(setup: Setup) -> None:
    started = setup.folder / "started"
    hangs = setup.plugin("hangs", f"echo $$ > {started}; sleep 600")
    process = in_a_process(setup, chain(hangs))
    wait_for(started)
    with pytest.raises(UnavailableError, match="another CNI command for container one has not"):
        setup.host(setup.restarted(timeout_s=0.1).delete, KEY)
    os.killpg(int(started.read_text()), signal.SIGKILL)
    assert process.wait() == 1


def test_plugin_of_a_dead_runtime_is_ended_before_the_next_begins(setup: Setup) -> None:
    started, log = setup.folder / "started", setup.folder / "log"
    hangs = setup.plugin(
        "hangs",
        f"echo $CNI_COMMAND >> {log}; test $CNI_COMMAND = ADD || exit 0; sleep 600 &"
        f" echo $$ > {started}; wait; echo woke >> {log}; echo '{{}}'",
    )
    process = in_a_process(setup, chain(BRIDGE, hangs))
    wait_for(started)
    process.kill()
    process.wait()
    plugin = int(started.read_text())
    assert runs(plugin)
    setup.host(setup.restarted(timeout_s=0.2).delete, KEY)
    deadline = time.monotonic() + 10
    while runs(plugin):  # killed, and not yet at its end
        assert time.monotonic() < deadline
    assert log.read_text().split() == ["ADD", "DEL"]
    nothing_left(setup)


@pytest.mark.parametrize("how", ["delete", "add", "collect"])
def test_whatever_moment_a_runtime_dies_at(setup: Setup, how: str) -> None:
    network = chain(BRIDGE, PORTMAP, FIREWALL)
    moments = random.Random(7)
    for _ in range(8):
        process = in_a_process(setup, network)
        deadline = time.monotonic() + 20
        while not setup.left() and process.poll() is None:
            assert time.monotonic() < deadline
        time.sleep(moments.random() * 0.4)
        process.kill()
        process.wait()
        again = setup.restarted()
        if how == "add" and KEY in again.attachments():
            with contextlib.suppress(AlreadyExistsError):
                setup.add(network, "one")
            setup.delete(network, "one")
        elif how == "collect":
            setup.host(again.collect, network, ())
        else:
            setup.host(again.delete, KEY)
        nothing_left(setup)


def test_damaged_record_does_not_keep_its_address(setup: Setup) -> None:
    network = chain(BRIDGE)
    setup.add(network, "one")
    (record,) = (setup.folder / "state" / "results").iterdir()
    record.write_text("")
    again = setup.restarted()
    with pytest.raises(NotFoundError, match=r"not known any more .*damaged"):
        setup.host(again.delete, KEY)
    setup.host(again.collect, network, ())
    assert leases(setup) == []
    assert setup.left() == []
