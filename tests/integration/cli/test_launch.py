"""The engine is started by whoever needs it first, once, and says why if it cannot be."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import IMAGE, CommandLine
from tests.integration.engines import kill_all, processes_of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for an engine that does not run yet; what runs of it in the end is ended."""
    yield tmp_path
    kill_all(tmp_path / "run")


def command_line(folder: Path, **more: str) -> CommandLine:
    made = {"ORLOP_ROOT": str(folder / "root"), "ORLOP_RUN": str(folder / "run"), **more}
    return CommandLine({"HOME": str(folder), **made})


def engines(folder: Path) -> list[int]:
    return [
        pid
        for pid in processes_of(folder / "run")
        if b"orlop.programs.engine" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_two_commands_at_once_start_one_engine(folder: Path) -> None:
    cli = command_line(folder)
    started = [cli.start("version", "-f", "{{.Server.Version}}") for _ in range(4)]
    results = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * 4, results
    assert len(engines(folder)) == 1


def test_engine_outlives_its_starter_and_is_used_again(folder: Path) -> None:
    cli = command_line(folder)
    cli.out("version")
    (first,) = engines(folder)
    cli.out("version")
    assert engines(folder) == [first]
    assert os.getsid(first) == first
    assert os.readlink(f"/proc/{first}/cwd") == "/"


def test_options_choose_the_engine(folder: Path) -> None:
    cli = command_line(folder, ORLOP_RUN="/no/such", ORLOP_ROOT="/no/such")
    words = ("--root", str(folder / "root"), "--run", str(folder / "run"))
    cli.out(*words, "version")
    assert (folder / "run" / "orlop.sock").is_socket()


def test_engine_that_cannot_start_says_why_in_one_line(folder: Path) -> None:
    (folder / "root").write_text("not a folder")
    done = command_line(folder).run("ps")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("orlop: the engine did not start: ")
    assert "Traceback" not in line


def test_named_engine_is_not_started(folder: Path) -> None:
    done = command_line(folder, ORLOP_HOST=f"unix://{folder}/run/orlop.sock").run("ps")
    assert done.returncode == 1
    assert b"cannot reach the engine" in done.stderr
    assert engines(folder) == []


def test_only_root_starts_the_engine(folder: Path) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed")
    cli = command_line(folder)
    done = subprocess.run(
        [setpriv, "--reuid=65534", "--clear-groups", *cli.words, "ps"],
        env={**cli.environment, "ORLOP_RUN": "/run/no-such-orlop"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ("orlop: no engine is running, and only root can start it (use sudo)\n")


@pytest.mark.parametrize("options", [(), ("--rm",)])
def test_attached_run_outlives_its_engine(
    folder: Path, busybox_archive: Path, options: tuple[str, ...]
) -> None:
    """The streams do not pass through the engine, and the next engine knows the exit status."""
    cli = command_line(folder)
    cli.out("load", "-i", str(busybox_archive))
    script = "echo before; while [ ! -e /go/on ]; do sleep 0.1; done; echo after; exit 7"
    (folder / "go").mkdir()
    words = ("run", *options, "-v", f"{folder}/go:/go", IMAGE, "sh", "-c", script)
    with cli.start(*words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"before\n"
        (engine,) = engines(folder)
        os.kill(engine, signal.SIGKILL)
        (folder / "go" / "on").touch()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (7, b"after\n", b"")
    for identifier in cli.containers():
        cli.out("rm", "-f", identifier)
