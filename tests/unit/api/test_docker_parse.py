"""From the bodies that Docker's clients send to the engine's options."""

from typing import Any

import msgspec
import pytest

from orlop.api.docker.parse_container import parse_create, parse_exec
from orlop.api.docker.parse_mounts import parse_bind
from orlop.api.docker.wire import Create, ExecCreate, decode
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import ContainerOptions, MountPoint, Ulimit
from orlop.model.network import EndpointOptions

#: What `docker run alpine true` sends (docker 26.1), shortened where nothing is said.
DOCKER_RUN: dict[str, Any] = {
    "Hostname": "",
    "AttachStdout": True,
    "AttachStderr": True,
    "Env": None,
    "Cmd": ["true"],
    "Image": "alpine",
    "Volumes": {},
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": {},
    "HostConfig": {
        "Binds": None,
        "LogConfig": {"Type": "", "Config": {}},
        "NetworkMode": "default",
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "ConsoleSize": [24, 80],
        "CapAdd": None,
        "CgroupnsMode": "",
        "ShmSize": 0,
        "Memory": 0,
        "MemorySwappiness": -1,
        "OomKillDisable": False,
        "PidsLimit": 0,
        "Ulimits": [],
        "MaskedPaths": None,
    },
    "NetworkingConfig": {"EndpointsConfig": {"default": {"Links": None}}},
}


def parse(body: dict[str, Any]) -> ContainerOptions:
    return parse_create(decode(msgspec.json.encode(body), Create))


def parse_host(**host: Any) -> ContainerOptions:
    return parse({"Image": "x", "HostConfig": host})


def test_docker_run_with_no_options_asks_for_the_defaults() -> None:
    expected = ContainerOptions(
        image="alpine",
        command=("true",),
        console_size=(24, 80),
        attach_stdout=True,
        attach_stderr=True,
        network="bridge",
        networks={"bridge": EndpointOptions()},
    )
    assert parse(DOCKER_RUN) == expected


def test_body_without_host_config_is_enough() -> None:
    assert parse({"Image": "x"}) == ContainerOptions(image="x", network="bridge")


def test_one_word_may_come_without_its_list() -> None:
    assert parse({"Image": "x", "Cmd": "sh -c 'a b'"}).command == ("sh", "-c", "a b")


def test_one_empty_word_takes_the_entry_point_away() -> None:
    assert parse({"Image": "x", "Entrypoint": [""]}).entrypoint == ()
    assert parse({"Image": "x", "Entrypoint": []}).entrypoint is None
    assert parse({"Image": "x"}).entrypoint is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b'{"HostConfig":{"Memory":"1g"}}', "HostConfig.Memory: expected int, got str"),
        (b'{"Env":[1]}', "Env[0]: expected str, got int"),
        (b'{"Labels":{"a":1}}', "Labels[...]: expected str, got int"),
        (b'{"Tty":"yes"}', "Tty: expected bool, got str"),
        (b'{"HostConfig":{"Mounts":[{"Target":[]}]}}', "HostConfig.Mounts[0].Target"),
        (b"[]", "expected object, got array"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"ExposedPorts":{"a":' + b"[" * 100_000, "not JSON"),
        (b'{"HostConfig":{"Memory":1e400}}', "HostConfig.Memory"),
    ],
)
def test_wrong_body_is_refused_with_the_name_of_the_field(text: bytes, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        decode(text, Create)
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"Binds": ["a:b"]}, "invalid mount target 'b'"),
        ({"Binds": ["/a:/b:ro:x"]}, "invalid volume specification"),
        ({"Binds": ["/a:/b:wild"]}, "invalid mode 'wild'"),
        ({"Binds": ["/a:/b", "/c:/b"]}, "duplicate mount point /b"),
        ({"Mounts": [{"Type": "npipe", "Target": "/x"}]}, "invalid mount type 'npipe'"),
        ({"Mounts": [{"Type": "bind", "Source": "a", "Target": "/x"}]}, "absolute path"),
        ({"RestartPolicy": {"Name": "maybe"}}, "invalid restart policy 'maybe'"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}, "cannot have 3 retries"),
        ({"RestartPolicy": {"Name": "always"}, "AutoRemove": True}, "cannot restart"),
        ({"ShmSize": -1}, "/dev/shm"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 4}]}, "soft limit 5 is above hard 4"),
        ({"Devices": [{"PathOnHost": "/dev/x", "CgroupPermissions": "rx"}]}, "invalid access"),
        ({"LogConfig": {"Config": {"max-size": "ten"}}}, "invalid size 'ten'"),
        ({"LogConfig": {"Config": {"max-file": "0"}}}, "at least 1"),
        ({"LogConfig": {"Config": {"max-file": "1001"}}}, "at most 1000"),
        ({"LogConfig": {"Config": {"max-file": "9" * 5000}}}, "at most 1000"),
        ({"LogConfig": {"Config": {"colour": "x"}}}, "unknown log option 'colour'"),
        ({"LogConfig": {"Type": "local", "Config": {"tag": "x"}}}, "unknown log option 'tag'"),
        ({"LogConfig": {"Config": {"compress": "perhaps"}}}, "must be true or false"),
        ({"LogConfig": {"Config": {"compress": "true", "max-file": "1"}}}, "at least 2"),
        ({"LogConfig": {"Config": {"mode": "loud"}}}, "mode cannot be 'loud'"),
        ({"LogConfig": {"Config": {"max-buffer-size": "1m"}}}, "needs mode=non-blocking"),
        ({"LogConfig": {"Type": "splunk"}}, 'logging plugin splunk: plugin "splunk" not found'),
        ({"Runtime": "kata"}, "unknown or invalid runtime name: kata"),
        ({"StorageOpt": {"inodes": "1"}}, "unknown storage option 'inodes'"),
        ({"StorageOpt": {"size": "much"}}, "invalid size 'much'"),
    ],
)
def test_senseless_host_config_is_refused_in_one_sentence(host: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_host(**host)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        {"DeviceRequests": [{"Driver": "nvidia"}]},
        {"VolumeDriver": "nfs", "Binds": ["a:/b"]},
    ],
)
def test_what_is_not_there_is_refused_as_unsupported(host: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError):
        parse_host(**host)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a:/b", MountPoint(type="bind", source="/a", target="/b", create_host_path=True)),
        (
            "/a:/b:ro,rslave,z",
            MountPoint(
                type="bind",
                source="/a",
                target="/b",
                read_only=True,
                propagation="rslave",
                create_host_path=True,
                mode="ro,rslave,z",
            ),
        ),
        (
            "data:/b:nocopy",
            MountPoint(type="volume", source="data", target="/b", no_copy=True, mode="nocopy"),
        ),
        ("/b", MountPoint(type="volume", target="/b")),
    ],
)
def test_short_volume_form_is_understood(text: str, expected: MountPoint) -> None:
    assert parse_bind(text) == expected


def test_zero_is_how_clients_leave_a_ceiling_alone() -> None:
    resources = parse_host(Memory=0, CpuShares=0, PidsLimit=0, CpuQuota=0).resources
    assert resources == ContainerOptions().resources


def test_ceilings_arrive_with_their_numbers() -> None:
    resources = parse_host(
        Memory=1 << 20,
        MemorySwap=-1,
        PidsLimit=-1,
        NanoCpus=1_500_000_000,
        Ulimits=[{"Name": "nofile", "Soft": 1, "Hard": -1}],
        BlkioDeviceReadIOps=[{"Path": "/dev/sda", "Rate": 9}],
    ).resources
    assert resources.memory_bytes == 1 << 20
    assert resources.memory_swap_bytes == -1
    assert resources.pids_limit == -1
    assert resources.nano_cpus == 1_500_000_000
    assert resources.ulimits == (Ulimit(name="nofile", soft=1, hard=-1),)
    assert resources.read_iops[0].rate == 9


def test_network_that_nobody_chose_is_the_bridge() -> None:
    assert parse_host(NetworkMode="default").network == "bridge"
    assert parse_host().network == "bridge"
    assert parse_host(NetworkMode="host").network == "host"
    assert parse_host(NetworkMode="bridge").network == "bridge"


def test_log_sizes_have_units() -> None:
    log = parse_host(LogConfig={"Config": {"max-size": "10m", "max-file": "3"}}).log
    assert (log.max_size_bytes, log.max_files) == (10 << 20, 3)
    assert parse_host(LogConfig={"Config": {"max-size": "-1"}}).log.max_size_bytes == -1


def test_exec_needs_a_command() -> None:
    with pytest.raises(InvalidArgumentError):
        parse_exec(ExecCreate(cmd=None))
    assert parse_exec(ExecCreate(cmd=["ls", "-l"], tty=True)).command == ("ls", "-l")
