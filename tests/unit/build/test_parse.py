"""A Dockerfile becomes stages of steps, and an error names the file and the line."""

import pytest

from orlop.build.parse import parse, parse_trigger
from orlop.errors import InvalidArgumentError, OrlopError, UnsupportedError


def test_stages_have_names_and_their_own_steps() -> None:
    file = parse(b"ARG V=1\nFROM base:$V AS One\nRUN a\n\nFROM one\nCOPY --from=one x y\nRUN b\n")
    assert [one.args for one in file.arguments] == [("V=1",)]
    assert [stage.name for stage in file.stages] == ["one", ""]
    assert [[step.name for step in stage.steps] for stage in file.stages] == [
        ["RUN"],
        ["COPY", "RUN"],
    ]
    assert file.stages[1].steps[0].flags == (("from", "one"),)
    assert file.stages[1].steps[0].args == ("x", "y")


def test_a_heredoc_is_not_read_as_instructions() -> None:
    text = b"FROM a\nCOPY <<one <<-'two' /d/\nFROM x\none\n\t\tRUN $y\n\ttwo\nRUN c\n"
    (stage,) = parse(text).stages
    assert [step.name for step in stage.steps] == ["COPY", "RUN"]
    assert [(doc.name, doc.content, doc.expands) for doc in stage.steps[0].heredocs] == [
        ("one", "FROM x\n", True),
        ("two", "RUN $y\n", False),
    ]


def test_the_escape_directive_changes_how_lines_are_continued() -> None:
    file = parse(b"# escape=`\nFROM a\nRUN b `\n c\\\n")
    assert file.escape == "`"
    assert file.stages[0].steps[0].args == ("b  c\\",)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"FROM a\nFOO b", "D:2: unknown instruction: FOO"),
        (b"FROM a\nRUN <<E\nx", "D:2: unterminated heredoc"),
        (b"# escape=x\nFROM a", "D:1: invalid escape token"),
        (b"FROM a\n\nENV A", "D:3: ENV must have two arguments"),
        (b"RUN x\nFROM a", "D:1: RUN: no build stage in current context"),
        (b"FROM a b", "D:1: FROM: expected FROM IMAGE or FROM IMAGE AS NAME"),
        (b"FROM a\nCOPY --=x a b", "D:2: a flag has no name"),
        (b"", "D has no FROM"),
        (b"FROM \xff", "D is not UTF-8"),
        (b"#" + b"x" * (1 << 20), "D is larger than 1 MiB"),
        (b"FROM a\n" * 10_001, "D has more than 10000 instructions"),
    ],
)
def test_an_error_names_its_line_once(text: bytes, place: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse(text, "D")
    assert str(caught.value).startswith(place)


def test_only_the_standard_front_end_is_served() -> None:
    assert parse(b"# syntax=docker/dockerfile:1.7-labs\nFROM a").stages
    assert parse(b"# syntax=docker/dockerfile@sha256:0\nFROM a").stages
    with pytest.raises(UnsupportedError, match="example/front:1"):
        parse(b"# syntax=example/front:1\nFROM a")
    assert parse(b"FROM a\n# syntax=example/front:1\n").stages


def test_a_trigger_is_one_instruction_that_may_stand_in_a_stage() -> None:
    (onbuild,) = parse(b"FROM a\nONBUILD COPY --chown=1 x y").stages[0].steps
    trigger = parse_trigger(onbuild.args[0], "base")
    assert (trigger.name, trigger.args, trigger.flags) == ("COPY", ("x", "y"), (("chown", "1"),))
    for text in ("FROM a", "ONBUILD RUN x", "MAINTAINER m", "RUN x\nRUN y", ""):
        with pytest.raises(OrlopError):
            parse_trigger(text, "base")
