"""Terminals: raw mode, sizes, detaching."""

import termios

from tests.integration.cli.conftest import IMAGE, CommandLine
from tests.integration.cli.terminals import terminal


def test_shell_has_a_terminal_and_its_exit_code_is_ours(cli: CommandLine) -> None:
    with terminal(cli, "run", "--rm", "-it", IMAGE, "sh") as tty:
        tty.expect(b"# ")
        tty.type(b"test -t 0 && echo is-a-$((1 + 1))-terminal\n")
        tty.expect(b"is-a-2-terminal")
        tty.type(b"exit 5\n")
        assert tty.process.wait(20) == 5
        assert termios.tcgetattr(tty.slave) == tty.modes


def test_size_follows_the_terminal(cli: CommandLine) -> None:
    with terminal(cli, "run", "--rm", "-it", IMAGE, "sh") as tty:
        tty.expect(b"# ")
        tty.type(b"stty size\n")
        tty.expect(b"24 80")
        tty.resize(33, 77)
        tty.type(b"while [ \"$(stty size)\" != '33 77' ]; do sleep 0.1; done; echo re''sized\n")
        tty.expect(b"resized")


def test_a_terminal_has_its_size_when_nobody_resizes_it(cli: CommandLine) -> None:
    with terminal(cli, "run", "-dt", "--name", "sized", IMAGE, "stty", "size") as tty:
        assert tty.process.wait(20) == 0
    assert cli.out("logs", "-f", "sized").strip() == "24 80"
    wait = "until [ -s /f ]; do usleep 10000; done; cat /f"
    cli.out("run", "-d", "--name", "base", IMAGE, "sh", "-c", wait)
    with terminal(cli, "exec", "-dt", "base", "sh", "-c", "stty size >/f") as tty:
        assert tty.process.wait(20) == 0
    assert cli.out("logs", "-f", "base") == "24 80"


def test_control_c_goes_to_the_container(cli: CommandLine) -> None:
    with terminal(cli, "run", "--rm", "-it", IMAGE, "sh") as tty:
        tty.expect(b"# ")
        tty.type(b"trap 'echo inter''rupted' INT\n")
        tty.type(b"echo re''ady\n")
        tty.expect(b"ready")
        tty.type(b"\x03")
        tty.expect(b"interrupted")
        assert tty.process.poll() is None


def test_keys_detach_and_the_container_runs_on(cli: CommandLine) -> None:
    with terminal(cli, "run", "-it", "--name", "left", IMAGE, "sh") as tty:
        tty.expect(b"# ")
        tty.type(b"\x10\x11")
        tty.expect(b"read escape sequence")
        assert tty.process.wait(20) == 0
        assert termios.tcgetattr(tty.slave) == tty.modes
    assert cli.out("inspect", "-f", "{{.State.Running}}", "left") == "true"
    with terminal(cli, "attach", "left") as tty:
        tty.expect(b"# ")  # drawn anew
        tty.type(b"echo back-$((2 + 3))\n")
        tty.expect(b"back-5")
        tty.type(b"exit 9\n")
        assert tty.process.wait(20) == 9


def test_keys_to_detach_can_be_others(cli: CommandLine) -> None:
    words = ("run", "-it", "--name", "other", "--detach-keys", "ctrl-x,x", IMAGE, "sh")
    with terminal(cli, *words) as tty:
        tty.expect(b"# ")
        tty.type(b"\x18x")
        tty.expect(b"read escape sequence")
        assert tty.process.wait(20) == 0


def test_exec_has_a_terminal_of_its_own(cli: CommandLine) -> None:
    cli.out("run", "-d", "--name", "base", IMAGE, "sleep", "1000")
    with terminal(cli, "exec", "-it", "base", "sh") as tty:
        tty.expect(b"# ")
        tty.type(b"stty size; exit 6\n")
        tty.expect(b"24 80")
        assert tty.process.wait(20) == 6


def test_terminal_without_one_is_refused(cli: CommandLine) -> None:
    done = cli.run("run", "--rm", "-it", IMAGE, "true")
    assert done.returncode == 125
    assert b"the input device is not a TTY" in done.stderr
    assert cli.containers() == []
