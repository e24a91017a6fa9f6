"""From text to sizes, durations and the values of run's options."""

import time

import pytest

from orlop.cli import values
from orlop.cli.container import mounts, ports, resources
from orlop.model.durations import parse_duration_ns


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("0", 0), ("2us", 2e-6)],
)
def test_duration_is_read_as_go_writes_it(text: str, expected_s: float) -> None:
    assert parse_duration_ns(text) == int(expected_s * 1e9)


@pytest.mark.parametrize("text", ["", "30", "s", "1x", "1.2.3s", "-3s", ".", "9" * 400 + "h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration_ns(text)


def test_moment_is_a_time_or_how_long_ago() -> None:
    assert values.moment("1700000000") == "1700000000.000000000"
    assert values.moment("2026-01-02T03:04:05Z") == "1767323045.000000000"
    assert abs(float(values.moment("10m")) - (time.time() - 600)) < 60
    with pytest.raises(ValueError, match="invalid time"):
        values.moment("yesterday")


def test_processors_are_counted_in_billionths() -> None:
    assert values.cpus("1.5") == 1_500_000_000
    for text in ("-1", "many", "nan"):
        with pytest.raises(ValueError, match="expected a number of processors"):
            values.cpus(text)


def test_filters_collect_values_by_key() -> None:
    assert values.filters(["label=a", "label=b", "status=running"]) == {
        "label": ["a", "b"],
        "status": ["running"],
    }
    with pytest.raises(ValueError, match="expected KEY=VALUE"):
        values.filters(["running"])


def test_ulimit_has_a_soft_and_a_hard_limit() -> None:
    assert resources.ulimit("nofile=64:128") == {"Name": "nofile", "Soft": 64, "Hard": 128}
    assert resources.ulimit("core=-1") == {"Name": "core", "Soft": -1, "Hard": -1}
    for text in ("nofile", "nofile=", "nofile=2:1", "=3", "nofile=-1:5"):
        with pytest.raises(ValueError, match="invalid --ulimit"):
            resources.ulimit(text)


def test_restart_policy_may_have_a_count_only_on_failure() -> None:
    assert resources.restart_policy("on-failure:3") == {
        "Name": "on-failure",
        "MaximumRetryCount": 3,
    }
    for text in ("sometimes", "always:3", "on-failure:x"):
        with pytest.raises(ValueError, match="invalid --restart"):
            resources.restart_policy(text)


def test_volume_without_a_source_is_anonymous_and_a_relative_path_becomes_absolute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/usr")
    binds, anonymous = mounts.volumes(["/data", "name:/n", "./lib:/l:ro", "/etc:/e"])
    assert binds == ["name:/n", "/usr/lib:/l:ro", "/etc:/e"]
    assert anonymous == {"/data": {}}


@pytest.mark.parametrize("text", ["data", "name:data", ":/data"])
def test_volume_needs_an_absolute_target(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        mounts.volumes([text])


def test_mount_has_the_fields_of_the_api() -> None:
    assert mounts.mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave") == {
        "Type": "bind",
        "Source": "/a",
        "Target": "/b",
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rslave"},
    }
    assert mounts.mount("source=v,target=/b,volume-nocopy,volume-label=k=v") == {
        "Type": "volume",
        "Source": "v",
        "Target": "/b",
        "VolumeOptions": {"NoCopy": True, "Labels": {"k": "v"}},
    }
    assert mounts.mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770") == {
        "Type": "tmpfs",
        "Target": "/t",
        "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770},
    }


def test_quotes_keep_commas_in_a_mount() -> None:
    made = mounts.mount('type=volume,target=/b,"volume-opt=o=uid=1,gid=2"')
    assert made["VolumeOptions"]["DriverConfig"]["Options"] == {"o": "uid=1,gid=2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bind,source=/a", "target is missing"),
        ("type=bind,target=/a", "source is missing"),
        ("type=cloud,target=/a", "expected one of bind, volume, tmpfs"),
        ("target=/a,colour=red", "unexpected key 'colour'"),
        ("type=bind,source=/a,target=/b,tmpfs-size=1m", "tmpfs-… with type=bind"),
        ("type=tmpfs,target=/a,tmpfs-mode=9", "expected an octal mode"),
        ("target=/a,readonly=maybe", "expected true or false"),
    ],
)
def test_wrong_mount_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mounts.mount(text)


def test_device_has_a_target_and_an_access() -> None:
    def fields(text: str) -> tuple[str, ...]:
        return tuple(mounts.device(text).values())

    assert fields("/dev/null") == ("/dev/null", "/dev/null", "rwm")
    assert fields("/dev/null:r") == ("/dev/null", "/dev/null", "r")
    assert fields("/dev/null:/dev/n:rw") == ("/dev/null", "/dev/n", "rw")
    for text in ("", "/dev/null:/dev/n:x", "/dev/null:/dev/n:rr", "a:b:r:w"):
        with pytest.raises(ValueError, match="invalid --device"):
            mounts.device(text)


def test_ports_are_published_one_by_one() -> None:
    assert ports.bindings(["8080:80", "127.0.0.1:53:53/udp", "9000-9001:90-91"]) == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        "90/tcp": [{"HostIp": "", "HostPort": "9000"}],
        "91/tcp": [{"HostIp": "", "HostPort": "9001"}],
    }
