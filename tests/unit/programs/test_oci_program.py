"""The command line of orlop-runtime: every command of runc's, its options, and what they cost."""

import json
import re
from pathlib import Path

import pytest

from orlop.cli.options import options_of
from orlop.programs.oci import main
from orlop.programs.oci.table import table
from tests.imports import modules_after

COMMANDS = (
    *("create", "start", "run", "state", "kill", "delete", "exec", "ps", "list", "pause"),
    *("resume", "events", "update", "spec", "features", "checkpoint", "restore"),
)

#: Options of runc 1.4's and crun's man pages, that those who call them use.
OPTIONS = {
    "create": "--bundle --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring"
    " --preserve-fds --config",
    "run": "--bundle --console-socket --pidfd-socket --detach --keep --pid-file --no-subreaper"
    " --no-pivot --no-new-keyring --preserve-fds --config",
    "exec": "--console-socket --pidfd-socket --cwd --env --tty --user --additional-gids --process"
    " --detach --pid-file --process-label --apparmor --no-new-privs --cap --preserve-fds --cgroup"
    " --ignore-paused --no-subreaper -e -t -u -g -p -d -c",
    "kill": "--all --regex",
    "delete": "--force --regex -f",
    "list": "--format --quiet -f -q",
    "ps": "--format -f",
    "events": "--interval --stats",
    "update": "--resources --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share"
    " --cpu-rt-period --cpu-rt-runtime --cpuset-cpus --cpuset-mems --memory --cpu-idle"
    " --memory-reservation --memory-swap --pids-limit --l3-cache-schema --mem-bw-schema"
    " --kernel-memory --kernel-memory-tcp -r",
    "spec": "--bundle --rootless -b",
}


#: What is not imported on the way of a command.
MAKING = "re json socket signal typing dataclasses subprocess enum collections functools ctypes"
LIGHT = f"orlop.runtime struct {MAKING}"


def test_all_commands_of_runc_are_there() -> None:
    assert set(COMMANDS) == set(main.COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([name, "--help"], ["help", name], [name, "-h"]):
        assert main.main(words) == 0
        assert capsys.readouterr().out.startswith(f"NAME:\n   orlop-runtime {name} - ")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_command_takes_the_options_of_runc_and_crun(name: str) -> None:
    command = main.load(name)
    names = {word for _, option in options_of(command.Args) for word in option.names}
    assert set(OPTIONS[name].split()) <= names


def test_global_options_are_those_of_runc_and_crun() -> None:
    names = {word for _, option in options_of(main.Settings) for word in option.names}
    wanted = "--debug --log --log-format --root --criu --systemd-cgroup --rootless --version"
    assert set(f"{wanted} --cgroup-manager --log-level --no-pivot".split()) <= names


def test_version_and_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert re.match(r"orlop-runtime version \S+\nspec: 1\.\d\.\d\n", capsys.readouterr().out)
    for words in ([], ["help"], ["--help"]):
        assert main.main(words) == 0
        assert "COMMANDS:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["none"], 3, "No help topic for 'none'"),
        (["state"], 1, "missing argument"),
        (["state", "a", "b"], 1, "unexpected argument: b"),
        (["state", "--none", "a"], 1, "unknown flag: --none"),
        (["--none"], 1, "unknown flag: --none"),
        (["--log-format", "xml", "list"], 1, 'invalid log-format "xml"'),
        (["list", "--format", "xml"], 1, "invalid value"),
        (["create", "--preserve-fds", "x", "a"], 1, "invalid value 'x'"),
    ],
)
def test_a_line_that_says_nothing_sensible(
    words: list[str], code: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.main(words) == code
    line = capfd.readouterr().err
    assert re.match(r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level=error msg=', line)
    assert reason in line.replace('\\"', '"')
    assert line.count("\n") == 1


def test_the_last_line_of_the_log_is_the_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    words = ["--root", str(tmp_path / "root"), "--log", str(log)]
    assert main.main([*words, "--log-format", "json", "state", "a"]) == 1
    assert main.main([*words, "--log-format=json", "state", "b/"]) == 1
    first, second = map(json.loads, log.read_text().splitlines())
    assert list(first) == ["level", "msg", "time"]
    assert (first["level"], first["msg"]) == ("error", "container does not exist")
    assert second["msg"] == "invalid container ID format"
    assert capfd.readouterr().err == "container does not exist\ninvalid container ID format\n"
    assert main.main([*words, "--log", f"file:{log}", "state", "a"]) == 1
    last = log.read_text().splitlines()[-1]
    assert re.fullmatch(r'time="\S+" level=error msg="container does not exist"', last)


def test_columns_are_as_gos_tabwriter_makes_them() -> None:
    assert table(["ID", "PID", "STATUS"], [["a", "1", "x"], ["b" * 12, "2", "y"]]) == (
        "ID             PID         STATUS\n"
        "a              1           x\n"
        "bbbbbbbbbbbb   2           y\n"
    )


@pytest.mark.parametrize(
    ("command", "forbidden"),
    [
        *((name, LIGHT) for name in ("state", "list", "start", "kill", "delete")),
        *((name, MAKING) for name in ("run", "create", "exec")),
    ],
)
def test_a_command_imports_little(command: str, forbidden: str) -> None:
    found = modules_after(f"from orlop.programs.oci import main; main.load('{command}')")
    assert set(forbidden.split()) & found == set()
