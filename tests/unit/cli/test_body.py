"""From the options of run to the body of a create request."""

from pathlib import Path

import pytest

from orlop.cli.container.body import create_body
from orlop.cli.container.environment import environment
from orlop.cli.container.exec import ExecCommand, exec_body
from orlop.cli.container.run import RunCommand
from orlop.cli.container.update import UpdateCommand, update_body
from orlop.cli.parser import parse
from orlop.errors import InvalidArgumentError, UnsupportedError


def body(*words: str, attached: bool = True) -> dict[str, object]:
    return create_body(parse(RunCommand, [*words, "alpine"]), attached=attached)


def host(*words: str) -> dict[str, object]:
    made = body(*words)["HostConfig"]
    assert isinstance(made, dict)
    return made


def test_image_and_command_are_what_follows_the_options() -> None:
    made = create_body(parse(RunCommand, ["alpine", "ls", "-l"]), attached=True)
    assert (made["Image"], made["Cmd"]) == ("alpine", ["ls", "-l"])
    assert body()["Cmd"] is None


def test_network_is_left_to_the_engine_where_none_is_named() -> None:
    assert host()["NetworkMode"] == "default"
    assert host("--net", "host")["NetworkMode"] == "host"


@pytest.mark.parametrize(
    ("words", "attached", "streams"),
    [
        ((), True, (False, True, True)),
        (("-i",), True, (True, True, True)),
        (("-a", "stdout"), True, (False, True, False)),
        (("-i",), False, (False, False, False)),
    ],
)
def test_streams_are_attached_as_asked(
    words: tuple[str, ...], attached: bool, streams: tuple[bool, ...]
) -> None:
    made = body(*words, attached=attached)
    assert (made["AttachStdin"], made["AttachStdout"], made["AttachStderr"]) == streams
    assert made["StdinOnce"] == streams[0]


def test_entrypoint_can_be_emptied() -> None:
    assert "Entrypoint" not in body()
    assert body("--entrypoint", "")["Entrypoint"] == [""]
    assert body("--entrypoint", "sh")["Entrypoint"] == ["sh"]


def test_limits_are_sent_only_where_given() -> None:
    assert "Memory" not in host()
    made = host("-m", "64m", "--memory-swap", "-1", "--cpus", "1.5", "--pids-limit", "10")
    assert (made["Memory"], made["MemorySwap"]) == (64 << 20, -1)
    assert (made["NanoCpus"], made["PidsLimit"]) == (1_500_000_000, 10)


def test_every_list_option_arrives_under_its_name() -> None:
    made = host(
        *("--cap-add", "NET_RAW", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--tmpfs", "/t:size=1m", "--dns", "1.1.1.1", "--add-host", "a:1.2.3.4"),
        *("--device", "/dev/null", "--sysctl", "net.a=1", "--ulimit", "nofile=5"),
        *("--log-driver", "json-file", "--log-opt", "max-size=1m", "--group-add", "5"),
        *("--device-read-bps", "/dev/vda:1m", "--annotation", "a=b", "--init", "--read-only"),
    )
    assert made["CapAdd"] == ["NET_RAW"]
    assert made["CapDrop"] == ["ALL"]
    assert made["SecurityOpt"] == ["no-new-privileges"]
    assert made["Tmpfs"] == {"/t": "size=1m"}
    assert made["Dns"] == ["1.1.1.1"]
    assert made["ExtraHosts"] == ["a:1.2.3.4"]
    assert made["Sysctls"] == {"net.a": "1"}
    assert made["Ulimits"] == [{"Name": "nofile", "Soft": 5, "Hard": 5}]
    assert made["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert made["BlkioDeviceReadBps"] == [{"Path": "/dev/vda", "Rate": 1 << 20}]
    assert made["Annotations"] == {"a": "b"}
    assert (made["Init"], made["ReadonlyRootfs"], made["GroupAdd"]) == (True, True, ["5"])


def test_environment_comes_from_files_then_options_and_hands_on_what_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDED_ON", "yes")
    monkeypatch.delenv("NOT_SET", raising=False)
    file = tmp_path / "env"
    file.write_text("# a comment\nA=1\n\n  B=two words # kept\nHANDED_ON\nNOT_SET\n")
    assert environment(["A=2"], [str(file)]) == [
        "A=1",
        "B=two words # kept",
        "HANDED_ON=yes",
        "A=2",
    ]


def test_health_check_is_in_nanoseconds() -> None:
    made = body("--health-cmd", "true", "--health-interval", "5s", "--health-retries", "2")
    assert made["Healthcheck"] == {
        "Test": ["CMD-SHELL", "true"],
        "Interval": 5_000_000_000,
        "Retries": 2,
    }
    assert body("--no-healthcheck")["Healthcheck"] == {"Test": ["NONE"]}


def test_seccomp_profile_is_sent_not_its_name(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    made = host("--security-opt", f"seccomp={profile}", "--security-opt", "seccomp=unconfined")
    assert made["SecurityOpt"] == [
        'seccomp={"defaultAction": "SCMP_ACT_ALLOW"}',
        "seccomp=unconfined",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rm", "--restart", "always"), "--rm conflicts with --restart"),
        (("--env-file", "/no/such"), "cannot read /no/such"),
        (("-e", "=x"), "invalid environment variable"),
        (("-a", "stdfoo"), "invalid value 'stdfoo' for --attach"),
        (("--no-healthcheck", "--health-cmd", "x"), "conflicts"),
        (("--label", "=x"), "invalid value '=x' for --label"),
    ],
)
def test_what_cannot_be_is_said_in_a_clause(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        body(*words)


def test_gpus_are_refused_clearly() -> None:
    with pytest.raises(UnsupportedError, match="--gpus is not supported"):
        body("--gpus", "all")


def test_exec_attaches_unless_it_runs_in_the_background() -> None:
    made = exec_body(parse(ExecCommand, ["-i", "-u", "nobody", "-e", "A=b", "c", "id", "-u"]))
    assert made["Cmd"] == ["id", "-u"]
    assert (made["User"], made["Env"], made["AttachStdin"]) == ("nobody", ["A=b"], True)
    assert exec_body(parse(ExecCommand, ["-d", "c", "id"]))["AttachStdout"] is False


def test_update_changes_nothing_that_was_not_named() -> None:
    assert update_body(parse(UpdateCommand, ["--cpus", "2", "c"])) == {"NanoCpus": 2_000_000_000}
