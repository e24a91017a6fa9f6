"""What is no command, and no option, is told by its name, before anything is started for it."""

from typing import Any

import pytest

import orlop
from orlop.errors import InvalidArgumentError
from orlop.sandbox.processes.commands import Commands
from orlop.sandbox.processes.process import Process
from orlop.sandbox.way import Command


class Never(Commands):
    """Would start a command, were it one."""

    def _begin(self, command: Command) -> Process:
        raise AssertionError(command)


@pytest.mark.parametrize(
    ("command", "how", "told"),
    [
        (["ls", 3], {}, r"command\[1\] is no text: 3"),
        ([b"ls"], {}, r"command\[0\] is no text: b'ls'"),
        ("ls", {}, "a command is a list of words"),
        ([], {}, "a command is a list of words"),
        ({"ls"}, {}, "a command is a list of words"),
        (["ls"], {"user": 1.5}, "user is no text: 1.5"),
        (["ls"], {"user": -1}, "user is no text: -1"),
        (["ls"], {"workdir": 3}, "workdir is no text: 3"),
        (["ls"], {"environment": {"A": 1}}, r"environment\['A'\] is no text: 1"),
        (["ls"], {"environment": {1: "A"}}, "name of a variable: 1"),
        (["ls"], {"environment": ["A"]}, "environment is no mapping"),
        (["ls"], {"input": "text"}, r"input is bytes, not str \(encode it\)"),
        (["ls"], {"timeout": "1"}, "invalid timeout '1'"),
        (["ls"], {"timeout": 0}, "invalid timeout 0"),
        (["ls"], {"timeout": float("nan")}, "invalid timeout nan"),
        (["ls"], {"output_limit": None}, "invalid output_limit None"),
        (["ls"], {"output_limit": -1}, "invalid output_limit -1"),
        (["ls"], {"output_limit": 1.5}, "invalid output_limit 1.5"),
    ],
    ids=str,
)
def test_what_is_no_command_is_not_begun(command: Any, how: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):
        Never().run(command, **how)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"command": "sleep 1"}, r"command is one text \(a list of them: \['sleep 1'\]\)"),
        ({"command": ["sleep", 1]}, r"command\[1\] is no text: 1"),
        ({"mounts": "/tmp:/x"}, "mounts is one text"),
        ({"mounts": [("/tmp", "/x")]}, r"mounts\[0\] is no text"),
        ({"mounts": None}, "mounts is no list: None"),
        ({"egress": [1], "network": "bridge"}, r"egress\[0\] is no text: 1"),
        ({"environment": {"A": None}}, r"environment\['A'\] is no text: None"),
        ({"user": True}, "user is no text: True"),
        ({"image": None}, "image is no text: None"),
        ({"name": 7}, "name is no text: 7"),
        ({"ports": 80, "network": "bridge"}, "invalid ports 80"),
        ({"ports": ["80"], "network": "bridge"}, "invalid port 80"),
        ({"neighbours": "no"}, "invalid neighbours 'no'"),
        ({"neighbours": False, "network": "host"}, "neighbours=False does not go with .* host"),
        ({"lifetime": "1"}, "invalid lifetime '1'"),
        ({"lifetime": -1}, "invalid lifetime -1"),
        ({"cpus": "2"}, "invalid number of cpus '2'"),
    ],
    ids=str,
)
def test_what_is_no_option_is_refused_at_once(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):
        orlop.Sandbox(**options)


def test_number_of_forks_is_a_number() -> None:
    for count in (2.5, 0, "2", True):
        with pytest.raises(InvalidArgumentError, match="invalid number of forks"):
            orlop.Sandbox().fork(count)  # type: ignore[arg-type]


def test_user_may_be_an_id() -> None:
    assert orlop.Sandbox(user=65534).body()["User"] == "65534"
