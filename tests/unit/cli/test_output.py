"""Templates, tables, units and progress."""

import io
from typing import Any

import pytest

from orlop.cli.output import progress, units
from orlop.cli.output.listing import Listing, show_objects, write_table
from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.model.gotemplate import Template

VALUE: dict[str, Any] = {
    "Name": "web",
    "Running": True,
    "Pid": 7,
    "State": {"Status": "running", "Health": None},
    "Env": ["A=1", "B=2"],
    "Labels": {"b.c": "2", "a": "1"},
    "Mounts": [{"Source": "/x"}, {"Source": "/y"}],
    "Empty": [],
    "Mapped": lambda _argument: {"one": "1"},
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}} is {{.State.Status}}", "web is running"),
        ("{{json .Env}}", '["A=1","B=2"]'),
        ("{{.Env | json}}", '["A=1","B=2"]'),
        ("{{range .Mounts}}{{.Source}} {{end}}", "/x /y "),
        ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Source}};{{end}}", "0=/x;1=/y;"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=1 b.c=2 "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ('{{index .Labels "b.c"}}', "2"),
        ("{{index .Env 1}}", "B=2"),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if not .Running}}down{{else if eq .Pid 7}}seven{{end}}", "seven"),
        ("{{if and .Running (gt .Pid 5)}}both{{end}}", "both"),
        ("{{with .State}}{{.Status}} {{$.Name}}{{end}}", "running web"),
        ('{{join .Env ", "}}', "A=1, B=2"),
        ("{{upper .Name}} {{len .Env}}", "WEB 2"),
        ('{{printf "%s-%d" .Name .Pid}}', "web-7"),
        ("a {{- .Pid -}} b", "a7b"),
        ("{{.State.Health}}", "<no value>"),
        ("{{.Labels}} {{.Env}}", "map[a:1 b.c:2] [A=1 B=2]"),
        ('{{$x := .Name}}{{$x}}{{println ""}}', "web\n"),
        ('{{"{{"}}', "{{"),
        ("{{/* a comment */}}x", "x"),
        ("{{.Labels.nobodys}}", "<no value>"),
        ("{{slice .Name 1}} {{slice .Name 0 1}}", "eb w"),
        ('{{printf "%q" .Name}}', '"web"'),
        ("{{(index .Mounts 1).Source}}", "/y"),
        ("{{(.Mapped nil).one}} {{(.Mapped nil).two}}", "1 <no value>"),
    ],
)
def test_template_renders_as_go_would(source: str, expected: str) -> None:
    assert Template(source).render(VALUE) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{.Oops}}", "no entry for key 'Oops'"),
        ("{{.Name.Inner}}", "can't evaluate field 'Inner'"),
        ("{{.Name", "unclosed"),
        ("{{range .Env}}", "{{end}} is missing"),
        ("{{end}}", "unexpected"),
        ("{{shout .Name}}", "function 'shout' not defined"),
        ("{{index .Env 9}}", "error calling index"),
        ("{{$nothing}}", "undefined variable"),
        ("{{(.Name}}", "unclosed parenthesis"),
        ("{{}}", "missing value"),
        ("{{.Mapped}}", "needs an argument"),
        ("{{.Mapped 1 2}}", "wrong number of arguments"),
        ("{{upper .Pid}}", "error calling upper"),
        ("{{" + "(" * 1000 + ".Name" + ")" * 1000 + "}}", "too many parentheses"),
        ('{{printf "%99999999s" .Name}}', "error calling printf"),
        ('{{printf "%*s" 99999999 .Name}}', "error calling printf"),
        ("{{pad .Name 99999999999 0}}", "error calling pad"),
        ("{{$x := .Name}}" + "{{$x = print $x $x}}" * 60, "over 1048576 characters"),
    ],
)
def test_wrong_template_says_what_is_wrong(source: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Template(source).render(VALUE)
    assert message in str(caught.value)


def test_value_is_never_taken_for_a_template() -> None:
    assert Template("{{.Name}}").render({"Name": "{{.Pid}}"}) == "{{.Pid}}"


LISTING = Listing({"ID": "CONTAINER ID", "Names": "NAMES"}, default=("ID", "Names"))
ROWS = [{"ID": "abc", "Names": "web", "Label": lambda name: f"<{name}>"}]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("", "CONTAINER ID   NAMES\nabc            web\n"),
        ("table {{.Names}}\\t{{.ID}}", "NAMES     CONTAINER ID\nweb       abc\n"),
        ('table {{.Names}}\\t{{.Label "x.owner"}}', "NAMES     owner\nweb       <x.owner>\n"),
        ("{{.ID}}:{{.Names}}", "abc:web\n"),
        ("json", '{"ID":"abc","Names":"web"}\n'),
    ],
)
def test_list_is_a_table_or_what_format_says(form: str, expected: str) -> None:
    out = io.StringIO()
    LISTING.show(ROWS, out, form=form)
    assert out.getvalue() == expected


def test_line_breaks_in_a_cell_do_not_break_the_table() -> None:
    out = io.StringIO()
    write_table([["A", "B"], ["one\ntwo", "c"]], out)
    assert out.getvalue() == "A         B\none two   c\n"


def test_inspected_objects_are_an_array_of_json() -> None:
    out = io.StringIO()
    show_objects([{"Id": "a", "Empty": {}}], out, form="")
    assert out.getvalue() == '[\n    {\n        "Id": "a",\n        "Empty": {}\n    }\n]\n'


@pytest.mark.parametrize(
    ("count", "decimal", "binary"),
    [
        (0, "0B", "0B"),
        (999, "999B", "999B"),
        (2_030_000, "2.03MB", "1.936MiB"),
        (1_288_490_189, "1.29GB", "1.2GiB"),
    ],
)
def test_sizes_are_printed_as_docker_does(count: int, decimal: str, binary: str) -> None:
    assert (units.size(count), units.binary_size(count)) == (decimal, binary)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (47, "47 seconds"),
        (60, "About a minute"),
        (180, "3 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (172800, "2 days"),
        (1814400, "3 weeks"),
        (7776000, "3 months"),
        (94608000, "3 years"),
    ],
)
def test_durations_are_printed_as_docker_does(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_times_of_the_api_have_up_to_nine_decimals() -> None:
    assert units.epoch("2026-01-02T03:04:05.123456789Z") == pytest.approx(1767323045.123456789)
    assert units.epoch("2026-01-02T04:04:05+01:00") == 1767323045
    assert units.epoch("0001-01-01T00:00:00Z") == 0


MESSAGES: list[dict[str, Any]] = [
    {"status": "Pulling from library/alpine", "id": "latest"},
    {"status": "Downloading", "id": "aa", "progressDetail": {"current": 1, "total": 2}},
    {"status": "Pull complete", "id": "aa", "progressDetail": {}},
    {"status": "Digest: sha256:1234"},
]


def test_progress_is_plain_lines_where_nobody_watches() -> None:
    out = io.StringIO()
    progress.show(MESSAGES, out)
    assert out.getvalue().splitlines() == [
        "latest: Pulling from library/alpine",
        "aa: Pull complete",
        "Digest: sha256:1234",
    ]


def test_quiet_progress_is_the_digest_alone() -> None:
    out = io.StringIO()
    progress.show(MESSAGES, out, quiet=True)
    assert out.getvalue() == "sha256:1234\n"


def test_progress_is_drawn_in_bars_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    progress.show(MESSAGES, out)
    assert "Pull complete" in out.getvalue()
    assert "Digest: sha256:1234" in out.getvalue()


def test_progress_that_ends_with_an_error_raises_it() -> None:
    failed = {"errorDetail": {"message": "manifest for x not found"}, "error": "…"}
    with pytest.raises(NotFoundError, match="manifest for x not found"):
        progress.show([*MESSAGES, failed], io.StringIO())
