"""Start files: a command that was typed before starts from one file, and says what it said."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import orlop

SCRIPTS = Path(__file__).parents[3] / "scripts"
REFUSED = "orlop: "


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installation of its own: the scripts, and a copy of the package that can be changed."""
    packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    ours = tmp_path / packages / "orlop"
    shutil.copytree(Path(orlop.__file__).parent, ours, ignore=shutil.ignore_patterns("__pycache__"))
    commands = tmp_path / "bin"
    commands.mkdir()
    shutil.copy(SCRIPTS / "orlop", commands)
    main = (SCRIPTS / "orlop-main").read_text().replace("#!python", f"#!{sys.executable}", 1)
    (commands / "orlop-main").write_text(main)
    (commands / "orlop").chmod(0o755)
    return tmp_path


def exec_(prefix: Path, *, expected: str = REFUSED) -> str:
    """Run `orlop exec` at an engine that is not there; return what it says."""
    env = {**os.environ, "ORLOP_HOST": f"unix://{prefix}/no.sock"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [prefix / "bin" / "orlop", "exec", "nobody", "true"],
        env=env,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(expected)
    return done.stderr


def source(prefix: Path) -> Path:
    return next(prefix.glob("lib/python*/site-packages/orlop")) / "cli" / "main.py"


def change(prefix: Path, word: str, *, unseen: bool = False) -> None:
    """Have the command say *word* for "orlop: "; *unseen*: with size and time as they were."""
    path = source(prefix)
    before = path.stat()
    path.write_text(path.read_text().replace('f"orlop: {text}"', f'f"{word}: {{text}}"'))
    if unseen:
        assert path.stat().st_size == before.st_size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_second_call_starts_from_the_file(prefix: Path) -> None:
    said = exec_(prefix)
    assert (prefix / "lib/orlop/exec.pyc").exists()
    assert not list((prefix / "lib/orlop").glob("*.pyc.*"))
    change(prefix, "other", unseen=True)
    shutil.rmtree(source(prefix).parent / "__pycache__")
    assert exec_(prefix) == said  # the source was not read


def test_changed_source_counts_at_once_and_is_kept(prefix: Path) -> None:
    exec_(prefix)
    change(prefix, "changed")
    said = exec_(prefix, expected="changed: ")
    first = (prefix / "lib/orlop/exec.pyc").stat().st_ino
    assert exec_(prefix, expected="changed: ") == said
    assert (prefix / "lib/orlop/exec.pyc").stat().st_ino == first


def test_newer_command_makes_it_anew(prefix: Path) -> None:
    exec_(prefix)
    start = prefix / "lib/orlop/exec.pyc"
    start.write_bytes(b"of another interpreter")
    os.utime(start, (1, 1))  # older than orlop-main, which pip has just written
    exec_(prefix)
    assert start.stat().st_size > 1000


def test_folder_that_cannot_be_written_is_no_error(prefix: Path) -> None:
    (prefix / "lib/orlop").write_text("a file")
    exec_(prefix)
    exec_(prefix)


def test_help_with_its_slow_modules_is_not_what_is_kept(prefix: Path) -> None:
    command = [str(prefix / "bin" / "orlop"), "exec", "--help"]
    for _ in range(2):
        done = subprocess.run(command, text=True, capture_output=True, check=True, timeout=60)
        assert done.stdout.startswith("Usage: orlop exec")
    kept = prefix / "lib/orlop/exec.pyc"
    assert not kept.exists() or b"textwrap" not in kept.read_bytes()


def test_plain_interpreter_runs_the_same_command_line(prefix: Path) -> None:
    exec_(prefix)
    env = {**os.environ, "PYTHONPATH": str(prefix)}
    env["ORLOP_HOST"] = f"unix://{prefix}/no.sock"
    done = subprocess.run(
        [prefix / "bin" / "orlop", "exec", "nobody", "true"],
        env=env,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(REFUSED)


@pytest.mark.parametrize(("file", "alone"), [("/x/_new.so", True), ("/x/new.py", False)])
def test_what_was_imported_of_others_tells_whether_it_is_kept(file: str, alone: bool) -> None:
    """Some interpreters have as shared objects what others have built in."""
    package = str(Path(orlop.__file__).parents[1])
    program = (
        f"import sys; sys.path.append({package!r}); from orlop.programs import startfile;"
        "recorder = startfile._Recorder(); new = sys.modules['new'] = type(sys)('new');"
        f"new.__file__ = {file!r}; print(recorder.is_of_the_package_alone())"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, text=True, capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == str(alone)
