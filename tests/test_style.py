"""The house rules that a tool can check, as tests: what passes here is ready for review."""

import ast
import graphlib
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
MOST_LINES_IN_A_FUNCTION = 40
MOST_LINES_IN_A_FILE = 500
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc"}


def sources() -> list[Path]:
    return sorted(
        path for folder in ("src", "tests", "bench") for path in (ROOT / folder).rglob("*.py")
    )


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "format", "--check", "--quiet", "."],
        ["ruff", "check", "--quiet", "."],
        ["mypy"],
        ["lint-imports", "--no-cache"],
        ["codespell", "src", "tests", "bench", "docs", "README.md"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_tool_has_nothing_to_say(command: list[str]) -> None:
    result = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def code_lines(path: Path) -> set[int]:
    """Lines of *path* that hold code: no comments, no blank lines, no docstrings."""
    skipped = {
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
        tokenize.ENCODING, tokenize.ENDMARKER,
    }  # fmt: skip
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    lines: set[int] = set()
    for token in tokens:
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def long_functions(path: Path) -> Iterator[str]:
    lines = code_lines(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = lines & set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            if len(own) > MOST_LINES_IN_A_FUNCTION:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {len(own)} lines"


def test_functions_are_short_enough_to_read() -> None:
    assert [line for path in sources() for line in long_functions(path)] == []


def test_files_are_short_enough_to_read() -> None:
    counts = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in sources()}
    assert {str(path): n for path, n in counts.items() if n > MOST_LINES_IN_A_FILE} == {}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert [str(path) for path in sources() if path.stem in FORBIDDEN_NAMES] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("orlop", exclude_type_checking_imports=False, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # CycleError names the circle


def test_exemptions_from_the_checks_name_their_rule() -> None:
    bare = ("# noqa\n", "# type: ignore\n")
    assert [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(keepends=True), 1)
        if line.endswith(bare)
    ] == []
