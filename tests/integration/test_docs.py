"""What README and docs/ show is run as it stands there, and prints what they say.

Blocks that begin with ```console run hold commands ("$ ") and their output, in which "…" is any
text, and a line of it alone any lines; ```python run blocks are programs.
"""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.cli import commands
from orlop.cli.options import options_of
from tests.integration.engines import EngineProcess, processes_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(console|python) run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANY = "…"


def examples(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def commands_in(block: str) -> Iterator[tuple[str, str]]:
    """Give each command with the output that is shown for it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def pattern(output: str) -> str:
    """Return the expression that *output* is short for."""
    return "".join(
        r"(?:.*\n)*" if line == ANY else _line(line) + r" *\n" for line in output.splitlines()
    )


def _line(line: str) -> str:
    """Columns of a table are as wide as what is in them: two blanks are any number."""
    return re.sub(r"(?:\\ ){2,}", " +", re.escape(line).replace(ANY, ".*"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that the first command starts."""
    engine = EngineProcess(tmp_path_factory.mktemp("d"))
    yield engine
    run(engine, "orlop engine --stop", engine.home)
    engine.close()


@pytest.fixture
def folder(tmp_path: Path, engine: EngineProcess) -> Iterator[Path]:
    """Where a page's commands run; containers, and engines started below it, end with it."""
    yield tmp_path
    run(engine, "orlop ps -aq | xargs -r orlop rm -f -v", tmp_path)
    for run_folder in tmp_path.glob("**/run"):
        for pid in processes_of(run_folder):
            with contextlib.suppress(ProcessLookupError):
                subprocess.run(["kill", "-KILL", str(pid)], check=False)


def run(engine: EngineProcess, script: str, folder: Path) -> str:
    environment = engine.environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + (f"exit code {done.returncode}\n" if done.returncode else "")


def check(engine: EngineProcess, block: str, folder: Path) -> None:
    for command, shown in commands_in(block):
        printed = run(engine, command, folder)
        assert re.fullmatch(pattern(shown), printed), f"$ {command}\n{printed}--- not:\n{shown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_do_what_the_page_says(page: Path, engine: EngineProcess, folder: Path) -> None:
    for kind, block in examples(page):
        if kind == "console":
            check(engine, block, folder)
        else:
            (folder / "example.py").write_text(block)
            printed = run(engine, f"{sys.executable} example.py", folder)
            assert "exit code" not in printed, printed


def test_most_pages_have_examples() -> None:
    assert sum(bool(examples(page)) for page in PAGES) >= 5


@pytest.mark.parametrize("name", commands.names())
def test_options_of_docker_that_are_missing_are_listed(name: str) -> None:
    told = subprocess.run(
        ["docker", *name.split(), "--help"], capture_output=True, text=True, check=False
    ).stdout
    _, module, _ = commands.find(name.split())
    if not module or f"docker {name} " not in told:  # a group, or nothing of Docker's
        return
    own = {o for _, option in options_of(commands.load(module)) for o in option.names}
    page = (ROOT / "CONFORMANCE.md").read_text()
    options = set(re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+)", told, re.MULTILINE))
    assert {option for option in options - own - {"--help"} if f"`{option}`" not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
