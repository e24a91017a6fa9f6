"""Lists: a table by default, else what --format says, or only ids with --quiet."""

from __future__ import annotations

from orlop.errors import InvalidArgumentError
from orlop.model.plain import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TextIO

_GAP = 3  # between columns; Docker's tables have the same
_NARROWEST = 10


class Listing:
    """What a list can show: fields by Docker's names with their headings, and a default table."""

    def __init__(self, headings: Mapping[str, str], *, default: Sequence[str]) -> None:
        self._headings = headings
        self._default = default

    def show(
        self, rows: Iterable[Mapping[str, Any]], out: TextIO, *, form: str, default: str = ""
    ) -> None:
        """Print *rows* as *form* says: "", "table", "table TEMPLATE", "json" or a template."""
        if form in ("", "table"):
            columns = "\t".join(f"{{{{.{name}}}}}" for name in self._default)
            form = f"table {default or columns}"
        if form == "json":
            form = "{{json .}}"
        source = form.replace("\\t", "\t").replace("\\n", "\n")
        if source.startswith("table"):
            self._table(rows, out, source.removeprefix("table").lstrip(" "))
        else:
            template = _template(source)
            for row in rows:
                print(template.render(row), file=out)

    def _table(self, rows: Iterable[Mapping[str, Any]], out: TextIO, source: str) -> None:
        template = _template(source)
        # Headings are what the template makes of headings, so that any template has some.
        lines = [template.render(_Headings(self._headings))]
        lines += [template.render(_cells(row)) for row in rows]
        write_table((line.split("\t") for line in lines), out)


class _Headings(dict[str, object]):
    """The headings as a row; a field that is a function has its argument's name for heading."""

    def __init__(self, headings: Mapping[str, str]) -> None:
        super().__init__(headings)
        self["Label"] = lambda name: name.rpartition(".")[2]


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return *row* so that no text of it begins another line or column."""
    return {name: _cell(text) if isinstance(text, str) else text for name, text in row.items()}


def _cell(text: str) -> str:
    return one_line(" ".join(text.splitlines()))


def _template(source: str) -> Any:
    from orlop.model.gotemplate import Template

    return Template(source)


def write_table(rows: Iterable[Sequence[str]], out: TextIO) -> None:
    """Print *rows* of cells in columns; the last cell of a row is not padded."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    columns = max((len(row) for row in cells), default=0)
    widths = [
        max(_NARROWEST, _GAP + max(len(row[i]) for row in cells if len(row) > i))
        for i in range(columns)
    ]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        print("".join([*padded, row[-1]]).rstrip(), file=out)


def show_objects(objects: list[Any], out: TextIO, *, form: str) -> None:
    """Print inspected *objects*: an array as JSON, or each as the template *form* says."""
    if form in ("", "json"):
        from orlop.model import jsontext

        print(jsontext.dumps(objects, indent=None if form else 4), file=out)
        return
    template = _template(form)
    for found in objects:
        print(template.render(found), file=out)


def parse_filters(values: list[str]) -> dict[str, list[str]]:
    """Return --filter options in the API's form; InvalidArgumentError for what is no KEY=VALUE."""
    from orlop.cli.values import filters

    try:
        return filters(values)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
