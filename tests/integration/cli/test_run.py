"""orlop run: output, exit codes, input, signals, life."""

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.cli.conftest import IMAGE, CommandLine


def test_output_and_errors_come_apart_and_the_exit_code_is_the_containers(cli: CommandLine) -> None:
    done = cli.run("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_removed_container_is_gone_when_run_returns(cli: CommandLine) -> None:
    cli.out("run", "--rm", IMAGE, "true")
    assert cli.containers() == []


def test_container_that_is_kept_can_be_listed_with_its_exit_code(cli: CommandLine) -> None:
    assert cli.run("run", "--name", "kept", IMAGE, "false").returncode == 1
    listed = cli.out("ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}")
    assert listed.startswith("kept exited Exited (1)")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((IMAGE, "no-such-command"), 127, "no-such-command"),
        ((IMAGE, "/etc/passwd"), 126, "/etc/passwd"),
        (("--pull", "never", "no-such-image"), 125, "no-such-image"),
        (("--memory", "lots", IMAGE), 125, "expected a size"),
        (("--no-such-flag", IMAGE), 125, "unknown flag: --no-such-flag"),
        (("--gpus", "all", IMAGE), 125, "--gpus is not supported"),
    ],
)
def test_failure_has_dockers_exit_code_and_one_clear_line(
    cli: CommandLine, words: tuple[str, ...], code: int, message: str
) -> None:
    done = cli.run("run", "--rm", *words)
    assert done.returncode == code, done.stderr
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("orlop: ")
    assert message in lines[0]
    assert "Traceback" not in done.stderr.decode()
    assert cli.containers() == []


def test_duplicate_name_is_refused(cli: CommandLine) -> None:
    cli.out("create", "--name", "taken", IMAGE)
    done = cli.run("run", "--name", "taken", IMAGE, "true")
    assert done.returncode == 125
    assert b"already in use" in done.stderr
    assert len(cli.containers()) == 1


def test_input_is_piped_through_and_its_end_is_seen(cli: CommandLine) -> None:
    assert cli.out("run", "--rm", "-i", IMAGE, "cat", stdin=b"a\nb\n") == "a\nb"


def test_much_input_comes_back_whole(cli: CommandLine) -> None:
    data = os.urandom(1 << 20) * 16
    done = cli.run("run", "--rm", "-i", IMAGE, "cat", stdin=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_container_that_reads_no_input_ends_all_the_same(cli: CommandLine) -> None:
    done = cli.run("run", "--rm", "-i", IMAGE, "true", stdin=bytes(4 << 20))
    assert done.returncode == 0


def test_without_i_the_container_has_no_input(cli: CommandLine) -> None:
    assert cli.out("run", "--rm", IMAGE, "cat", stdin=b"unseen") == ""


def test_background_prints_the_id_and_goes_on(cli: CommandLine) -> None:
    identifier = cli.out("run", "-d", IMAGE, "sleep", "1000")
    assert cli.out("ps", "-q", "--no-trunc") == identifier


def test_last_byte_of_a_long_output_arrives(cli: CommandLine) -> None:
    out = cli.out("run", "--rm", IMAGE, "seq", "200000")
    assert out.splitlines()[-1] == "200000"
    assert len(out.splitlines()) == 200000


def test_third_interrupt_that_is_ignored_says_how_to_end_the_container(cli: CommandLine) -> None:
    script = "trap 'echo got' INT; echo ready; while :; do sleep 0.02; done"
    with cli.start("run", "--rm", IMAGE, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        (identifier,) = cli.containers()
        for _ in range(4):
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == b"got\n"
        cli.out("rm", "-f", identifier)
        said = process.stderr.read().decode().splitlines()
        hint = f"end it with `orlop kill {identifier[:12]}`"
        assert said[0] == f"orlop: the container runs on after 3 interrupts ({hint})"
        assert said[1:] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signal_is_handed_on(cli: CommandLine, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 3' {int(number)}; echo ready; while :; do sleep 0.1; done"
    with cli.start("run", "--rm", IMAGE, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (3, b"got\n")


def test_reader_that_has_enough_ends_the_command_quietly(cli: CommandLine) -> None:
    with cli.start("run", "--rm", "--name", "endless", IMAGE, "yes") as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        process.wait(30)
        assert process.returncode == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_id_is_written_to_a_new_file_only(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "id"
    identifier = cli.out("run", "-d", "--cidfile", str(file), IMAGE, "true")
    assert file.read_text() == identifier
    done = cli.run("run", "--cidfile", str(file), IMAGE, "true")
    assert done.returncode == 125
    assert b"exists" in done.stderr


def test_settings_of_the_process_arrive(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("FROM_FILE=1\n")
    out = cli.out(
        *("run", "--rm", "-e", "A=b", "--env-file", str(tmp_path / "env"), "-w", "/tmp"),
        *("--hostname", "inside", "--ulimit", "nofile=64:64", "-v", f"{tmp_path}:/shared:ro"),
        *("--entrypoint", "sh", IMAGE),
        *("-c", "echo $A $FROM_FILE; pwd; hostname; ulimit -n; ls /shared"),
    )
    assert out.split() == ["b", "1", "/tmp", "inside", "64", "env"]
    out = cli.out("run", "--rm", "-u", "12:34", IMAGE, "sh", "-c", "id -u; id -g")
    assert out.split() == ["12", "34"]


def test_exec_runs_beside_and_has_its_own_exit_code(cli: CommandLine) -> None:
    cli.out("run", "-d", "--name", "base", IMAGE, "sleep", "1000")
    done = cli.run(
        "exec", "-i", "-e", "A=b", "base", "sh", "-c", "cat; echo $A; exit 5", stdin=b"x\n"
    )
    assert (done.returncode, done.stdout) == (5, b"x\nb\n")
    missing = cli.run("exec", "base", "no-such-command")
    assert missing.returncode in (126, 127)  # Docker's own engine says 126 for both
    assert cli.run("exec", "no-such", "true").returncode == 1


def test_stopped_container_starts_again_attached(cli: CommandLine) -> None:
    cli.out("create", "--name", "again", "-i", IMAGE, "cat")
    assert cli.out("start", "-ai", "again", stdin=b"one") == "one"
    assert cli.out("start", "-ai", "again", stdin=b"two") == "two"


def test_attached_late_sees_what_comes_from_then_on(cli: CommandLine) -> None:
    script = "while [ ! -e /go ]; do sleep 0.1; done; echo late; exit 4"
    cli.out("run", "-d", "--name", "late", IMAGE, "sh", "-c", script)
    with cli.start("attach", "--no-stdin", "late") as process:
        time.sleep(0.5)  # not a deadline: attaching earlier or later shows the same
        cli.out("exec", "late", "touch", "/go")
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (4, b"late\n")
    done = cli.run("attach", "late")
    assert done.returncode == 1
    assert b"not running" in done.stderr
