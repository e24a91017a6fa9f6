"""Results as text: a table for a terminal, Markdown, JSON."""

import json
from collections.abc import Iterator, Sequence

from orlop.benchmark.bench import Part, Results
from orlop.benchmark.figures import Row

_UNITS = {"ms": "ms", "s": "s", "mb": "MB", "kb": "KB", "mib": "MiB"}


def as_json(results: Results) -> str:
    """Return all, every single value too."""
    document = {**vars(results), "rows": [vars(row) for row in results.rows]}
    del document["parts"]
    return json.dumps(document, indent=1)


def as_text(results: Results) -> str:
    """Return tables for a terminal."""
    lines = [_machine(results), ""]
    for part, rows in _by_part(results):
        table = [_headings(part, rows), *(_cells(part, rows, row) for row in rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
        lines.append(part.title)
        for line in table:
            left = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
            right = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
            lines.append("  " + "  ".join([*left, *right]).rstrip())
        lines.append("")
    return "\n".join([*lines, *_notes(results)]) + "\n"


def as_markdown(results: Results) -> str:
    """Return tables for a page."""
    lines = [_machine(results), ""]
    for part, rows in _by_part(results):
        headings = _headings(part, rows)
        lines += [f"## {part.title}", "", _line(headings)]
        lines.append(_line(["---"] * 2 + ["---:"] * (len(headings) - 2)))
        lines += [*(_line(_cells(part, rows, row)) for row in rows), ""]
    notes = _notes(results)
    if notes:
        lines += ["## Left out, or different", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _by_part(results: Results) -> Iterator[tuple[Part, list[Row]]]:
    for name, part in results.parts.items():
        rows = [row for row in results.rows if row.part == name]
        if rows:
            yield part, sorted(rows, key=lambda row: row.at) if part.compared else rows


def _machine(results: Results) -> str:
    found = results.machine
    peers = found["peers"]
    versions = ", ".join(str(words) for words in peers.values()) if isinstance(peers, dict) else ""
    return (
        f"{found['time']}: Orlop {found['orlop']}, Python {found['python']}, "
        f"Linux {found['kernel']} {found['architecture']}, {found['cpus']} processors"
        f" ({found['processor']}), {found['memory_mb']} MB, cgroups {found['cgroups']}. {versions}"
    ).rstrip()


def _notes(results: Results) -> list[str]:
    notes = list(dict.fromkeys(results.left_out))
    return (
        [*notes, "interrupted: these are the figures until then"] if results.interrupted else notes
    )


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def _headings(part: Part, rows: Sequence[Row]) -> list[str]:
    headings = [_heading(name) for name in _names(rows)]
    return ["", "", *headings, "against orlop"] if part.compared else ["", "", *headings]


def _heading(name: str) -> str:
    words = name.split("_")
    if words[-1] in _UNITS:
        words[-1] = f"({_UNITS[words[-1]]})"
    return " ".join(words)


def _cells(part: Part, rows: Sequence[Row], row: Row) -> list[str]:
    cells = [row.driver, row.case]
    absent = "" if row.figures else "-"
    cells += [
        _number(row.figures[name]) if name in row.figures else absent for name in _names(rows)
    ]
    return [*cells, _against(part.compared, rows, row)] if part.compared else cells


def _number(value: float) -> str:
    if value == int(value):
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _against(name: str, rows: Sequence[Row], row: Row) -> str:
    """Return how many times the figure of Orlop's first way is better, in the same case."""
    same = (one for one in rows if one.driver.startswith("orlop") and one.case == row.case)
    base = next(same, None)
    if base is None or not row.figures.get(name) or not base.figures.get(name):
        return ""
    times = row.figures[name] / base.figures[name]
    return f"{1 / times if 'per_s' in name else times:.2f}"
