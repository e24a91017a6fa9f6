"""What the systemd driver promises; test_cgroup_systemd.py runs this beside a real systemd."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import AlreadyExistsError, InvalidArgumentError, OrlopError, UnavailableError
from orlop.model.oci import DeviceRule, Resources
from orlop.runtime import cgroups
from orlop.runtime.cgroups import Cgroup, systemd
from orlop.runtime.cgroups.layout import detect
from orlop.runtime.cgroups.systemd_manager import Manager
from orlop.runtime.cgroups.systemd_properties import Property, for_resources
from orlop.runtime.cgroups.v2_limits import weight_of_shares
from tests.integration.cgroups.members import run_inside, sleeping, until
from tests.integration.cgroups.test_cgroup_limits_kernel import RULES, try_devices
from tests.integration.oci_runtime.program import OCIBundle, Program
from tests.integration.runtime.box import Box

MIB = 1 << 20
V1 = bool(detect().v1)
MEMORY, SHARES = ("MemoryLimit", "CPUShares") if V1 else ("MemoryMax", "CPUWeight")
SLICE, UNIT = "test-inner.slice", "orlop-one.scope"
PATH = "test-inner.slice:orlop:one"


def show(unit: str, *properties: str) -> dict[str, str]:
    """What systemd says of a unit."""
    wanted = [f"--property={name}" for name in properties]
    said = subprocess.run(
        ["systemctl", "show", unit, *wanted], check=True, capture_output=True, text=True
    ).stdout
    return dict(line.partition("=")[::2] for line in said.splitlines())


def create(resources: Resources | None = None, path: str = PATH, **more: Any) -> Cgroup:
    return systemd.create(path, resources or {}, container="one", **more)


def value(cgroup: Cgroup, *files: str) -> str:
    for file in files:
        for directory in cgroup.directories.values():
            if (path := Path(directory, file)).exists():
                return path.read_text().strip()
    raise AssertionError(f"no {files} in {cgroup.directories}")


@pytest.fixture
def made() -> Iterator[list[Cgroup]]:
    """Cgroups that are removed at the end, with nothing of them left."""
    found: list[Cgroup] = []
    yield found
    for cgroup in found:
        cgroup.entered()
        cgroup.kill()
        cgroup.remove()
        assert not [path for path in cgroup.directories.values() if os.path.exists(path)]
        unit = os.path.basename(cgroup.path)
        assert show(unit, "LoadState", "ActiveState")["ActiveState"] == "inactive"


@pytest.fixture
def one(made: list[Cgroup]) -> Cgroup:
    made.append(create())
    return made[0]


def test_the_unit_is_a_delegated_scope_in_its_slice(one: Cgroup) -> None:
    said = show(UNIT, "ActiveState", "Slice", "Delegate", "ControlGroup", "Transient")
    assert said == {
        "ActiveState": "active",
        "Slice": SLICE,
        "Delegate": "yes",
        "ControlGroup": "/test.slice/test-inner.slice/orlop-one.scope",
        "Transient": "yes",
    }
    assert one.path == said["ControlGroup"]
    assert all(os.path.isdir(path) for path in one.directories.values())


def test_the_first_process_takes_over_from_the_seed(one: Cgroup) -> None:
    (seed,) = one.pids()
    with sleeping(one) as pid:
        one.entered()
        assert list(one.pids()) == [pid]
        with pytest.raises(ChildProcessError):
            os.waitpid(seed, os.WNOHANG)
        assert show(UNIT, "ActiveState")["ActiveState"] == "active"


def test_a_child_that_comes_to_nothing_leaves_no_seed(one: Cgroup) -> None:
    for door in one.doors():
        os.close(door)
    one.entered()
    assert list(one.pids()) == []


def test_the_scope_goes_with_its_last_process(one: Cgroup) -> None:
    assert run_inside(one, lambda: 7) == 7
    one.entered()
    until(lambda: show(UNIT, "ActiveState")["ActiveState"] == "inactive")


def test_another_process_can_come_in_later(one: Cgroup) -> None:
    with sleeping(one) as first:
        one.entered()
        again = cgroups.open(one.path, systemd=True)
        with sleeping(again) as second:
            assert sorted(again.pids()) == sorted([first, second])


def test_a_name_in_use_cannot_be_taken(one: Cgroup) -> None:
    with sleeping(one):
        one.entered()
        with pytest.raises(AlreadyExistsError, match=UNIT):
            create()
        assert show(UNIT, "ActiveState")["ActiveState"] == "active"


def wait_for_a_signal() -> int:
    signal.pause()
    return 0


def test_a_failed_unit_gives_its_name_back(made: list[Cgroup]) -> None:
    set_ = {"CollectMode": "'inactive'", "RuntimeMaxUSec": "300000"}
    annotations = {f"org.systemd.property.{name}": text for name, text in set_.items()}
    made.append(create(annotations=annotations))
    assert run_inside(made[0], wait_for_a_signal) == 128 + signal.SIGTERM
    made[0].entered()
    until(lambda: show(UNIT, "ActiveState")["ActiveState"] == "failed")
    made.append(create())
    assert show(UNIT, "ActiveState")["ActiveState"] == "active"


def test_without_a_path_the_name_is_the_containers(made: list[Cgroup]) -> None:
    made.append(create(path=""))
    assert made[0].path == "/system.slice/orlop-one.scope"


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 7000000", "7s"),
        ("TimeoutStopSec", "2", "2s"),
        ("CollectMode", "'inactive'", "inactive"),
        ("SendSIGHUP", "true", "yes"),
        ("KillSignal", "int32 2", "2"),
    ],
)
def test_an_annotation_sets_how_the_unit_ends(
    made: list[Cgroup], key: str, text: str, expected: str
) -> None:
    made.append(create(annotations={f"org.systemd.property.{key}": text, "other": "x"}))
    name = key.replace("Sec", "USec") if "USec" not in key else key
    assert show(UNIT, name) == {name: expected}


def test_an_annotation_cannot_start_other_units(made: list[Cgroup]) -> None:
    with pytest.raises(InvalidArgumentError, match="OnFailure"):
        create(annotations={"org.systemd.property.OnFailure": "['halt.target']"})
    assert show(UNIT, "ActiveState")["ActiveState"] == "inactive"


def test_devices_are_limited_by_systemd_too(made: list[Cgroup]) -> None:
    rules: list[DeviceRule] = [
        *RULES,
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "c", "major": 136, "access": "rw"},
    ]
    made.append(create({"devices": rules}))
    said = show(UNIT, "DevicePolicy", "DeviceAllow")
    assert said["DevicePolicy"] == "strict"
    assert "/dev/char/1:3 rwm" in said["DeviceAllow"] or "char-pts rw" in said["DeviceAllow"]
    assert run_inside(made[0], try_devices) == 1


def test_device_rules_survive_a_reload(made: list[Cgroup]) -> None:
    made.append(create({"devices": RULES}))
    with sleeping(made[0]):
        made[0].entered()
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        subprocess.run(["systemctl", "set-property", "--runtime", UNIT, "TasksMax=50"], check=True)
        assert run_inside(made[0], try_devices) == 1


def test_a_start_that_fails_leaves_no_unit() -> None:
    bad: Resources = {"cpu": {"cpus": "4000"}} if V1 else {"unified": {"no_such.file": "1"}}
    with pytest.raises(OrlopError):
        create(bad)
    assert show(UNIT, "ActiveState")["ActiveState"] == "inactive"
    assert not [h for h in detect().hierarchies if Path(h.mountpoint + _path()).exists()]


def _path() -> str:
    return f"/test.slice/{SLICE}/{UNIT}"


@pytest.mark.skipif("memory" not in detect().controllers, reason="has no such controllers")
class TestWithControllers:
    def test_limits_are_in_force_and_known_to_systemd(self, made: list[Cgroup]) -> None:
        made.append(create({
            "memory": {"limit": 64 * MIB},
            "pids": {"limit": 7},
            "cpu": {"shares": 512, "quota": 33333, "period": 100000, "cpus": "0"},
        }))  # fmt: skip
        weight = "512" if V1 else str(weight_of_shares(512))
        assert show(UNIT, MEMORY, "TasksMax", SHARES, "CPUQuotaPerSecUSec") == {
            MEMORY: str(64 * MIB),
            "TasksMax": "7",
            SHARES: weight,
            "CPUQuotaPerSecUSec": "340ms",
        }
        assert value(made[0], "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
        assert value(made[0], "pids.max") == "7"
        assert value(made[0], "cpu.shares", "cpu.weight") == weight
        assert value(made[0], "cpu.cfs_quota_us", "cpu.max").split()[0] == "33333"
        assert value(made[0], "cpuset.cpus") == "0"

    def test_an_update_survives_a_reload(self, one: Cgroup) -> None:
        with sleeping(one):
            one.entered()
            again = cgroups.open(one.path, systemd=True)
            again.update({"memory": {"limit": 32 * MIB}, "pids": {"limit": 9}})
            subprocess.run(["systemctl", "daemon-reload"], check=True)
            assert value(one, "memory.limit_in_bytes", "memory.max") == str(32 * MIB)
            assert value(one, "pids.max") == "9"
            again.update({"memory": {"limit": -1}, "pids": {"limit": -1}})
            assert value(one, "pids.max") == "max"
            assert show(UNIT, "TasksMax", MEMORY) == {"TasksMax": "infinity", MEMORY: "infinity"}

    def test_a_limit_of_one_process_has_room_for_that_one(self, made: list[Cgroup]) -> None:
        made.append(create({"pids": {"limit": 1}}))
        with sleeping(made[0]):
            made[0].entered()
            assert value(made[0], "pids.max") == "1"
            assert show(UNIT, "TasksMax")["TasksMax"] == "1"


def test_systemd_takes_every_property_of_v2() -> None:
    limits: Resources = {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
        "pids": {"limit": 7},
        "cpu": {"shares": 2048, "quota": 50000, "cpus": "0-1", "mems": "0"},
        "blockIO": {"weight": 300},
        "unified": {"memory.high": str(48 * MIB), "memory.min": "4096"},
    }
    asleep = subprocess.Popen(["sleep", "60"])
    try:
        with Manager(user=False) as manager:
            pids = Property("PIDs", "au", [asleep.pid])
            manager.start_scope("plain.scope", [pids, *for_resources(limits, v1=frozenset())])
            names = ["MemoryMax", "MemoryLow", "MemorySwapMax", "MemoryHigh", "MemoryMin",
                     "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "AllowedCPUs",
                     "AllowedMemoryNodes", "IOWeight"]  # fmt: skip
            said = show("plain.scope", *names)
            manager.set_properties(
                "plain.scope", for_resources({"cpu": {"idle": 1}}, v1=frozenset())
            )
            idle = show("plain.scope", "CPUWeight")
    finally:
        asleep.kill()
        asleep.wait()
    assert said == {
        "MemoryMax": str(64 * MIB),
        "MemoryLow": str(32 * MIB),
        "MemorySwapMax": str(32 * MIB),
        "MemoryHigh": str(48 * MIB),
        "MemoryMin": "4096",
        "TasksMax": "7",
        "CPUWeight": "174",
        "CPUQuotaPerSecUSec": "500ms",
        "AllowedCPUs": "0-1",
        "AllowedMemoryNodes": "0",
        "IOWeight": "300",
    }
    assert idle["CPUWeight"] in ("0", "idle")


def test_without_a_bus_systemds_own_socket_will_do(
    made: list[Cgroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus")
    made.append(create())
    assert show(UNIT, "ActiveState")["ActiveState"] == "active"


def test_no_systemd_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/no/such/bus")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such/folder")
    with pytest.raises(UnavailableError, match="systemd does not answer"), Manager(user=True):
        pass


def test_a_container_runs_in_a_scope(tmp_path: Path) -> None:
    box = Box(tmp_path)
    try:
        box.linux["cgroupsPath"] = "machine.slice:orlop:whole"
        box.manner = box.manner._replace(systemd_cgroup=True)
        running = box.sleeping()
        assert running.cgroup is not None
        assert running.cgroup.path == "/machine.slice/orlop-whole.scope"
        assert list(running.cgroup.pids()) == [running.pid]
        assert box.exec(running, "echo", "hello").output == "hello\n"
        assert show("orlop-whole.scope", "ActiveState")["ActiveState"] == "active"
    finally:
        box.close()
    assert show("orlop-whole.scope", "ActiveState")["ActiveState"] == "inactive"


def test_a_container_that_does_not_start_leaves_no_scope(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.linux["cgroupsPath"] = "machine.slice:orlop:whole"
    box.manner = box.manner._replace(systemd_cgroup=True)
    with pytest.raises(OrlopError, match="no such file"):
        box.run("/no/such/program")
    box.close()
    assert show("orlop-whole.scope", "ActiveState")["ActiveState"] == "inactive"


USERS_ACT = """
import json, os, signal
from orlop.runtime.cgroups import systemd

cgroup = systemd.create("", {}, container="one")
pid = os.fork()
if not pid:
    signal.pause()
cgroup.enter(pid)
print(json.dumps([cgroup.path, [pid] == list(cgroup.pids())]))
cgroup.kill()
cgroup.remove()
assert not os.path.exists(cgroup.directories[""])
"""


@pytest.fixture
def users_systemd() -> Iterator[dict[str, str]]:
    """The systemd of user 1000; the environment that he finds it by."""
    runtime = Path("/run/user/1000")
    runtime.mkdir(parents=True, exist_ok=True)
    os.chown(runtime, 1000, 1000)
    start = ["systemd-run", "--uid=1000", "--unit=his", "--property=Delegate=yes",
             "--property=TimeoutStopSec=5", "--setenv=XDG_RUNTIME_DIR=/run/user/1000",
             "/usr/lib/systemd/systemd", "--user", "--unit=dbus.socket"]  # fmt: skip
    subprocess.run(start, check=True, capture_output=True)
    until((runtime / "bus").is_socket)
    yield {"XDG_RUNTIME_DIR": str(runtime), "PATH": os.environ["PATH"]}
    subprocess.run(["systemctl", "stop", "his"], check=True)
    shutil.rmtree(runtime)


@pytest.mark.skipif(V1, reason="a user's systemd has cgroups of its own with v2 only")
@pytest.mark.parametrize("bus", ["/run/user/1000/bus", "/no/such/bus"])
def test_a_users_systemd_makes_scopes_for_him(users_systemd: dict[str, str], bus: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USERS_ACT],
        env=users_systemd | {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}"},
        cwd=Path(__file__).parents[3],
        user=1000,
        group=1000,
        extra_groups=[],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    path, alone = json.loads(done.stdout)
    assert path.endswith("/his.service/user.slice/orlop-one.scope")
    assert alone


class His(Program):
    """The program as user 1000 calls it, from where his systemd has no say."""

    def call(self, *words: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        return super().call(*words, user=1000, group=1000, extra_groups=[], cwd="/", **how)


@pytest.mark.skipif(V1, reason="a user's systemd has cgroups of its own with v2 only")
def test_a_users_container_is_in_a_scope_of_his(users_systemd: dict[str, str]) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    bundle, his = OCIBundle(folder / "bundle"), His(folder)
    his.environment = users_systemd
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    his.ok("spec", "--rootless", "--bundle", bundle.folder)
    bundle.config = json.loads((bundle.folder / "config.json").read_text())
    bundle.process.update(terminal=False, args=["sleep", "600"], env=["PATH=/bin"])
    name = his.id()
    with open(bundle.output, "w") as file:
        create = ("--systemd-cgroup", "create", "--bundle", bundle.write(), name)
        his.ok(*create, stdout=file, stderr=file)
    scope = f"/his.service/user.slice/orlop-{name}.scope"
    cgroup = Path(f"/proc/{his.pid(name)}/cgroup").read_text()
    assert cgroup.splitlines()[-1].endswith(scope)
    his.ok("start", name)
    assert scope not in his.ok("exec", name, "cat", "/proc/self/cgroup")  # seen from inside
    his.ok("kill", name, "KILL")
    his.ended(name)
    his.close()
    assert cgroups_named(f"orlop-{name}.scope") == []


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.close()


def test_the_runtimes_verbs_go_on_in_a_scope(program: Program, tmp_path: Path) -> None:
    bundle = OCIBundle(tmp_path / "bundle")
    bundle.process["args"] = ["sleep", "600"]
    bundle.linux["cgroupsPath"] = "machine.slice:orlop:verbs"
    name, unit = program.id(), "orlop-verbs.scope"
    with open(bundle.output, "w") as file:
        create = ("--systemd-cgroup", "create", "--bundle", bundle.write(), name)
        program.ok(*create, stdout=file, stderr=file)
    assert show(unit, "ActiveState", "Slice") == {"ActiveState": "active", "Slice": "machine.slice"}
    program.ok("start", name)
    inside = program.ok("exec", name, "cat", "/proc/self/cgroup")
    assert all(line.endswith(":/") for line in inside.splitlines() if line.startswith("0:"))
    program.ok("pause", name)
    assert program.state(name)["status"] == "paused"
    program.ok("resume", name)
    if "pids" in detect().controllers:
        program.ok("update", "--pids-limit", "33", name)
        assert show(unit, "TasksMax") == {"TasksMax": "33"}
    assert len(program.ok("ps", "--format", "json", name).split(",")) == 1
    program.ok("kill", name, "KILL")
    program.ended(name)
    program.ok("delete", name)
    assert show(unit, "ActiveState") == {"ActiveState": "inactive"}
    assert cgroups_named(unit) == []


def test_a_plain_path_is_refused_where_systemd_is_asked(program: Program, tmp_path: Path) -> None:
    bundle = OCIBundle(tmp_path / "bundle")
    bundle.linux["cgroupsPath"] = "/plain/path"
    said = program.refused("--systemd-cgroup", "run", "--bundle", bundle.write(), program.id())
    assert "'/plain/path' is not in systemd's form" in said


def cgroups_named(unit: str) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/{unit}") if path.is_dir()]


@pytest.mark.skipif(not shutil.which("criu"), reason="needs criu")
def test_a_restored_container_is_in_a_scope_again(program: Program, tmp_path: Path) -> None:
    bundle = OCIBundle(tmp_path / "bundle")
    bundle.process["args"] = ["sh", "-c", "while true; do sleep 1; done"]
    bundle.linux["cgroupsPath"] = "machine.slice:orlop:again"
    name, unit = program.id(), "orlop-again.scope"
    program.ok("--systemd-cgroup", "run", "--detach", "--bundle", bundle.write(), name,
               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    program.ok("checkpoint", "--image-path", tmp_path / "images", name)
    until(lambda: show(unit, "ActiveState") == {"ActiveState": "inactive"})
    program.ok("delete", "--force", name)
    program.ok("--systemd-cgroup", "restore", "--detach", "--image-path", tmp_path / "images",
               "--bundle", bundle.folder, name,
               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    assert show(unit, "ActiveState") == {"ActiveState": "active"}
    assert cgroups_named(unit)
    for folder in cgroups_named(unit):
        assert str(program.pid(name)) in (folder / "cgroup.procs").read_text().split()
    program.ok("delete", "--force", name)
    assert show(unit, "ActiveState") == {"ActiveState": "inactive"}
