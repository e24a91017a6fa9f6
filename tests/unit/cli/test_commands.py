"""All commands: each can be imported, explained and completed, and none costs much to start."""

import io
import subprocess

import pytest

from orlop.cli import commands, main
from orlop.cli.help import command_help
from orlop.cli.options import options_of
from orlop.cli.system import completion
from tests.imports import modules_after

ALL = {
    (name, module) for table in commands.HEADINGS.values() for name, (module, _) in table.items()
} | {
    (f"{group} {name}", module)
    for group, (_, table) in commands.GROUPS.items()
    for name, (module, _) in table.items()
}

#: What the issue asks for.
WANTED = """
    run create start attach exec ps logs stop kill restart pause unpause wait rm rename
    inspect top stats events cp diff port update version info pull push images rmi tag history
    save load import export commit login logout engine completion
"""


def run(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main.main(words, out, err), out.getvalue(), err.getvalue()


@pytest.mark.parametrize("name", WANTED.split())
def test_command_is_there(name: str) -> None:
    assert name in commands.names()


@pytest.mark.parametrize(("name", "module"), sorted(ALL))
def test_help_names_every_option_and_operand(name: str, module: str) -> None:
    arguments = commands.load(module)
    text = command_help(name, arguments, summary="")
    assert text.startswith(f"Usage: orlop {name}")
    for _, option in options_of(arguments):
        for word in option.names or (option.metavar,):
            assert word in text
        assert option.help or not option.names, f"{option.names} has no help"
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize(("name", "module"), sorted(ALL))
def test_no_option_is_declared_twice(name: str, module: str) -> None:
    names = [word for _, option in options_of(commands.load(module)) for word in option.names]
    assert len(names) == len(set(names)), name


def test_overview_lists_every_command_and_group() -> None:
    code, out, _ = run()
    assert code == 0
    for name in [*commands.GROUPS, *(n for table in commands.HEADINGS.values() for n in table)]:
        assert f"\n  {name} " in out


def test_help_of_a_group_and_of_a_command_exit_with_0() -> None:
    assert run("volume")[:2] == run("volume", "--help")[:2]
    code, out, _ = run("run", "--help")
    assert code == 0
    assert "Examples:" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("rnu",), 1, "orlop: 'rnu' is not a command\nDid you mean run?\n"),
        (("volume", "create2"), 1, "Did you mean volume create?"),
        (("ps", "--al"), 125, "unknown flag: --al (did you mean --all?)\nSee 'orlop ps --help'."),
        (("stop",), 1, "missing argument: CONTAINER\nSee 'orlop stop --help'."),
        (("--host", "nonsense", "ps"), 1, "invalid engine address 'nonsense'"),
        (("-H", "unix:///no/such.sock", "ps"), 1, "cannot reach the engine at unix:///no/such"),
        (("completion", "dish"), 1, "no completion for 'dish'"),
        (("-H", "unix:///no/such.sock", "run", "x"), 125, "cannot reach the engine"),
    ],
)
def test_mistake_is_one_clear_line_and_the_right_code(
    words: tuple[str, ...], code: int, message: str
) -> None:
    got, _, err = run(*words)
    assert message in err
    assert got == code
    assert "Traceback" not in err


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_options_and_names(shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    for word in ("unpause", "--cpuset-cpus", "_orlop_container", "--no-trunc", "_orlop_network"):
        assert word in out


def test_completion_script_is_one_that_bash_can_read() -> None:
    _, out, _ = run("completion", "bash")
    checked = subprocess.run(["bash", "-n"], input=out, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_argparse_reads_what_we_read() -> None:
    args = completion.parser().parse_args(["stop", "-t", "3", "web"])
    assert (args.timeout_s, args.names) == ("3", ["web"])


@pytest.mark.parametrize("command", ["run", "exec"])
def test_hot_command_imports_nothing_slow(command: str) -> None:
    """Each of these costs 3 to 10 ms, the interpreter itself 8: docs/decisions/cli-start.md."""
    loading = f"commands.load(commands.find(['{command}', 'x'])[1])"
    found = modules_after(f"from orlop.cli import main, commands; {loading}")
    slow = {"os", "argparse", "re", "json", "typing", "enum", "socket", "signal", "collections"}
    slow |= {"functools", "contextlib", "dataclasses", "subprocess", "logging", "pathlib", "rich"}
    assert slow & found == set()
