"""config.json from options: Docker's defaults, and what is refused."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orlop.engine import spec
from orlop.engine.spec import Given
from orlop.engine.spec.idranges import mappings
from orlop.engine.spec.resources import DEFAULT_PIDS, update
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import (
    ContainerOptions,
    DeviceMapping,
    ExecOptions,
    MountPoint,
    Resources,
    Ulimit,
)
from orlop.model.image import Process as ImageProcess
from orlop.model.oci import Config, OCIMount
from orlop.runtime.capability_sets import DEFAULT

MIB = 1 << 20
IMAGE = ImageProcess(
    env=("PATH=/image", "A=image"), cmd=("serve",), working_dir="srv", labels={"io.orlop.x": "1"}
)


def given(image: ImageProcess = IMAGE, **options: Any) -> Given:
    return Given("c0ffee", ContainerOptions(**options), image, hostname="box")


def config(**options: Any) -> Config:
    return spec.config(given(**options))


def with_mounts(*points: MountPoint, **options: Any) -> Config:
    return spec.config(given(**options)._replace(mounts=points))


def mount(made: Config, target: str) -> OCIMount:
    (found,) = [entry for entry in made["mounts"] if entry["destination"] == target]
    return found


def namespace(made: Config, kind: str) -> str | None:
    """Path of the namespace; "" for a new one, None for the host's."""
    found = [entry for entry in made["linux"]["namespaces"] if entry["type"] == kind]
    return found[0].get("path", "") if found else None


def test_the_default_is_confined() -> None:
    made = config()
    process, linux = made["process"], made["linux"]
    assert set(process["capabilities"]["bounding"]) == DEFAULT
    assert "inheritable" not in process["capabilities"]
    assert "ambient" not in process["capabilities"]
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert linux["resources"]["pids"] == {"limit": DEFAULT_PIDS}
    for kind in ("pid", "network", "mount", "ipc", "uts", "cgroup"):
        assert namespace(made, kind) == ""
    for target in ("/sys", "/sys/fs/cgroup"):
        assert "ro" in mount(made, target)["options"]


def test_privileged_lifts_all_of_it() -> None:
    made = config(privileged=True)
    assert "CAP_SYS_ADMIN" in made["process"]["capabilities"]["effective"]
    assert "seccomp" not in made["linux"]
    assert made["linux"]["maskedPaths"] == made["linux"]["readonlyPaths"] == []
    assert made["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mount(made, "/sys")["options"]


@pytest.mark.parametrize(
    ("entrypoint", "command", "argv"),
    [
        (None, None, ("entry", "cmd")),
        (None, ("other",), ("entry", "other")),
        (("own",), None, ("own",)),
        (("own",), ("other",), ("own", "other")),
        ((), ("other",), ("other",)),
        (("",), ("other",), ("other",)),
    ],
)
def test_entrypoint_and_command_combine_as_docker_does(
    entrypoint: tuple[str, ...] | None, command: tuple[str, ...] | None, argv: tuple[str, ...]
) -> None:
    image = ImageProcess(entrypoint=("entry",), cmd=("cmd",))
    options = ContainerOptions(entrypoint=entrypoint, command=command)
    assert spec.command(options, image) == argv


def test_an_empty_entrypoint_takes_the_images_command_along() -> None:
    image = ImageProcess(entrypoint=("entry",), cmd=("cmd",))
    with pytest.raises(InvalidArgumentError, match="no command"):
        spec.command(ContainerOptions(entrypoint=("",)), image)


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="no command"):
        spec.config(given(ImageProcess()))


def test_of_one_variable_the_users_counts_and_a_bare_name_removes_it() -> None:
    env = config(environment=("A=mine", "PATH"), terminal=True)["process"]["env"]
    assert sorted(env) == ["A=mine", "HOSTNAME=box", "TERM=xterm"]


@pytest.mark.parametrize(
    ("asked", "directory"), [("", "/srv"), ("/a/../b", "/b"), ("/../../x", "/x")]
)
def test_the_working_directory_is_absolute_and_clean(asked: str, directory: str) -> None:
    assert config(working_dir=asked)["process"]["cwd"] == directory


def test_a_user_is_left_for_the_runtime_to_look_up() -> None:
    user = config(user="web:staff", group_add=("audio",))["process"]["user"]
    assert user == {"username": "web:staff", "additionalGroups": ["audio"]}


@pytest.mark.parametrize(
    ("add", "drop", "has", "lacks"),
    [
        (("net_admin",), (), "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
        (("ALL",), ("SYS_ADMIN",), "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
        (("CAP_CHOWN",), ("all",), "CAP_CHOWN", "CAP_KILL"),
        ((), ("chown",), "CAP_KILL", "CAP_CHOWN"),
    ],
)
def test_capabilities_are_added_and_dropped(
    add: tuple[str, ...], drop: tuple[str, ...], has: str, lacks: str
) -> None:
    names = config(cap_add=add, cap_drop=drop)["process"]["capabilities"]["effective"]
    assert has in names
    assert lacks not in names


def test_seccomp_follows_the_capabilities() -> None:
    def names(made: Config) -> set[str]:
        return {n for r in made["linux"]["seccomp"]["syscalls"] for n in r["names"]}

    assert "mount" not in names(config())
    assert "mount" in names(config(cap_add=("SYS_ADMIN",)))


def test_a_pipe_in_place_of_a_seccomp_profile_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "profile")
    with pytest.raises(InvalidArgumentError, match="is not JSON"):
        config(security_opt=(f"seccomp={tmp_path}/profile",))


def test_security_options_are_read() -> None:
    made = config(
        security_opt=("seccomp=unconfined", "no-new-privileges", "systempaths=unconfined")
    )
    assert "seccomp" not in made["linux"]
    assert made["process"]["noNewPrivileges"]
    assert made["linux"]["maskedPaths"] == []
    own = config(security_opt=('seccomp={"defaultAction":"SCMP_ACT_LOG"}',))
    assert own["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_LOG", "syscalls": []}
    assert not config(security_opt=("no-new-privileges:false",))["process"]["noNewPrivileges"]


@pytest.mark.parametrize(
    "options",
    [
        {"security_opt": ("seccomp={",)},
        {"security_opt": ("seccomp=[]",)},
        {"security_opt": ("seccomp=../profile.json",)},
        {"security_opt": ("seccomp=/no/such/profile",)},
        {"security_opt": ("no-new-privileges=perhaps",)},
        {"security_opt": ("label=type:x",)},
        {"security_opt": ("magic=on",)},
        {"cap_add": ("CAP_FLY",)},
        {"ipc": "sideways"},
        {"pid": "container:gone"},
        {"uts": "container:x"},
        {"sysctls": {"kernel.core_pattern": "|/x"}},
        {"sysctls": {"vm.swappiness": "1"}},
        {"sysctls": {"net.ipv4.ip_forward": "1"}, "network": "host"},
        {"sysctls": {"kernel.msgmax": "1"}, "ipc": "host"},
        {"annotations": {"io.orlop.log": "binary:///x"}},
        {"cgroup_parent": "/a/../.."},
        {"environment": ("=x",)},
        {"environment": ("A=\0",)},
        {"user": "a\nb"},
        {"resources": Resources(ulimits=(Ulimit(name="magic", soft=1, hard=1),))},
        {"resources": Resources(ulimits=(Ulimit(name="nofile", soft=2, hard=1),))},
        {"resources": Resources(memory_bytes=1024)},
        {"resources": Resources(memory_bytes=-5)},
        {"resources": Resources(cpu_shares=1 << 63)},
        {"resources": Resources(memory_swap_bytes=64 * MIB)},
        {"resources": Resources(memory_bytes=64 * MIB, memory_swap_bytes=32 * MIB)},
        {"resources": Resources(memory_swappiness=101)},
        {"resources": Resources(nano_cpus=10**15)},
        {"resources": Resources(nano_cpus=10**9, cpu_quota_us=1)},
        {"resources": Resources(device_cgroup_rules=("c 1:3",))},
        {"resources": Resources(devices=(DeviceMapping(host_path="/etc", container_path="x"),))},
        {
            "resources": Resources(
                devices=(DeviceMapping(host_path="/etc/passwd", container_path="/dev/x"),)
            )
        },
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        config(**options)


def test_a_device_that_is_not_there_is_not_found() -> None:
    absent = DeviceMapping(host_path="/dev/no-such", container_path="/dev/x")
    with pytest.raises(InvalidArgumentError):
        config(resources=Resources(devices=(absent,)))


def test_a_device_is_made_and_allowed() -> None:
    mapping = DeviceMapping(host_path="/dev/null", container_path="/dev/nil", access="r")
    linux = config(resources=Resources(devices=(mapping,)))["linux"]
    (node,) = linux["devices"]
    assert (node["path"], node["major"], node["minor"]) == ("/dev/nil", 1, 3)
    last = linux["resources"]["devices"][-1]
    assert last == {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}


def test_host_modes_leave_the_namespace_out() -> None:
    made = config(network="host", ipc="host", pid="host", uts="host", cgroupns="host")
    for kind in ("network", "ipc", "pid", "uts", "cgroup"):
        assert namespace(made, kind) is None
    assert "hostname" not in made
    assert made["linux"]["sysctl"] == {}
    assert mount(made, "/dev/shm")["type"] == "bind"


def test_a_namespace_can_be_another_containers() -> None:
    it = given(pid="container:x", network="container:x")
    made = spec.config(it._replace(joined={"pid": "/proc/7/ns/pid", "network": "/proc/7/ns/net"}))
    assert namespace(made, "pid") == "/proc/7/ns/pid"
    assert namespace(made, "network") == "/proc/7/ns/net"


def test_limits_are_translated() -> None:
    limits = Resources(
        memory_bytes=64 * MIB,
        nano_cpus=500_000_000,
        cpu_shares=512,
        pids_limit=-1,
        cpuset_cpus="0",
        ulimits=(Ulimit(name="nofile", soft=10, hard=-1),),
    )
    made = config(resources=limits)
    resources = made["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 * MIB, "swap": 128 * MIB}
    assert resources["cpu"] == {"period": 100_000, "quota": 50_000, "shares": 512, "cpus": "0"}
    assert resources["pids"] == {"limit": -1}
    assert made["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": (1 << 64) - 1}
    ]


def test_an_update_names_only_what_was_asked_for() -> None:
    assert update(Resources(memory_bytes=64 * MIB)) == {"memory": {"limit": 64 * MIB}}


def test_user_mounts_come_last_by_depth_and_replace_ours() -> None:
    made = with_mounts(
        MountPoint(type="bind", source="/b", target="/data/deep"),
        MountPoint(type="volume", source="/a", target="/data/", read_only=True),
        MountPoint(type="tmpfs", target="/dev/shm", tmpfs_options="size=1m,exec"),
    )
    targets = [entry["destination"] for entry in made["mounts"]]
    assert targets[-3:] == ["/data", "/data/deep", "/dev/shm"]
    assert mount(made, "/data")["options"] == ["rbind", "rprivate", "rro"]
    assert mount(made, "/dev/shm")["options"][-2:] == ["size=1m", "exec"]


@pytest.mark.parametrize(
    "point",
    [
        MountPoint(type="bind", source="/a", target="/"),
        MountPoint(type="bind", source="/a", target="/x/.."),
        MountPoint(type="bind", source="/a", target="relative"),
        MountPoint(type="bind", source="relative", target="/x"),
        MountPoint(type="bind", source="/a", target="/x", propagation="sideways"),
        MountPoint(type="tmpfs", target="/x", tmpfs_options="source=/etc"),
    ],
)
def test_a_mount_that_cannot_be_is_refused(point: MountPoint) -> None:
    with pytest.raises(InvalidArgumentError):
        with_mounts(point)


def test_two_mounts_on_one_target_are_refused() -> None:
    point = MountPoint(type="tmpfs", target="/x")
    with pytest.raises(InvalidArgumentError, match="duplicate"):
        with_mounts(point, msgspec.structs.replace(point, target="/x/"))


def test_shared_mounts_need_a_shared_root() -> None:
    point = MountPoint(type="bind", source="/a", target="/x", propagation="rshared")
    assert with_mounts(point)["linux"]["rootfsPropagation"] == "rshared"
    assert config()["linux"]["rootfsPropagation"] == "rprivate"


def test_init_runs_the_command() -> None:
    made = spec.config(given(init=True)._replace(init="/usr/bin/tini"))
    assert made["process"]["args"] == ["/sbin/docker-init", "--", "serve"]
    assert mount(made, "/sbin/docker-init")["options"] == ["bind", "ro"]
    with pytest.raises(UnsupportedError, match="init"):
        config(init=True)


def test_an_images_labels_never_become_annotations() -> None:
    assert "annotations" not in config(labels={"run.oci.handler": "x"})


def test_the_cgroup_is_below_its_parent() -> None:
    assert config()["linux"]["cgroupsPath"] == "/orlop/c0ffee"
    assert config(cgroup_parent="batch/low")["linux"]["cgroupsPath"] == "/batch/low/c0ffee"


def test_an_exec_is_like_its_container_except_where_it_says_so() -> None:
    made = config(environment=("B=1",), user="web")
    process = spec.exec_process(
        made, ExecOptions(command=("ls",), environment=("B=2",), working_dir="/tmp")
    )
    assert process["args"] == ["ls"]
    assert "A=image" in process["env"]
    assert "B=2" in process["env"]
    assert process["cwd"] == "/tmp"
    assert process["user"] == {"username": "web"}
    assert process["capabilities"] == made["process"]["capabilities"]
    strong = spec.exec_process(made, ExecOptions(command=("ls",), privileged=True))
    assert "CAP_SYS_ADMIN" in strong["capabilities"]["effective"]


def test_id_ranges_are_stacked_and_never_the_hosts_root(tmp_path: Any) -> None:
    file = tmp_path / "subuid"
    file.write_text("web:100000:65536\nother:1:1\nweb:0:10\nweb:300000:10\nweb:x:y\n")
    uids, gids = mappings("web", subuid=str(file), subgid=str(file))
    assert uids == gids
    assert uids == (
        {"containerID": 0, "hostID": 100_000, "size": 65_536},
        {"containerID": 65_536, "hostID": 300_000, "size": 10},
    )
    assert mappings("host") == ((), ())
    given = ({"containerID": 0, "hostID": 200_000, "size": 1000},)
    assert mappings("200000:1000") == (given, given)
    for wrong in ("0:1000", "1:0", "4294967295:2", "1:2:3", ":", "x:1"):
        with pytest.raises(InvalidArgumentError, match="invalid id range"):
            mappings(wrong)
    with pytest.raises(InvalidArgumentError, match="no id range"):
        mappings("auto", subuid=str(file), subgid=str(file))
