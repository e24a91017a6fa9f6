"""How a command line is read."""

import pytest

from orlop.cli.options import (
    Arguments,
    file_or_alone,
    flag,
    number,
    operand,
    operands,
    text,
    texts,
)
from orlop.cli.parser import HelpWanted, OperandsError, UsageError, parse
from orlop.model.sizes import parse_size


class Args(Arguments):
    detach = flag("-d", "--detach", help="")
    interactive = flag("-i", "--interactive", help="")
    tty = flag("-t", "--tty", help="")
    proxy = flag("--sig-proxy", help="", default=True)
    name = text("--name", help="", default="none")
    pull = text("--pull", help="", choices=("always", "never"))
    trace = file_or_alone("--trace", help="", ending=".json", alone="-")
    env = texts("-e", "--env", help="")
    memory = number("-m", "--memory", help="", convert=parse_size)
    pids = number("--pids-limit", help="")
    image = operand("IMAGE")
    command = operands("COMMAND", optional=True)


class Wrapper(Args):
    interspersed = False


def test_what_is_not_given_has_its_default() -> None:
    args = parse(Args, ["alpine"])
    assert (args.detach, args.proxy, args.name, args.env, args.memory) == (
        False,
        True,
        "none",
        [],
        None,
    )
    assert (args.image, args.command) == ("alpine", [])


@pytest.mark.parametrize(
    "words",
    [["--name", "a"], ["--name=a"], ["--name=b", "--name=a"]],
)
def test_value_is_the_next_word_or_behind_an_equals_sign_and_the_last_one_counts(
    words: list[str],
) -> None:
    assert parse(Args, [*words, "alpine"]).name == "a"


@pytest.mark.parametrize("words", [["-e", "A=b"], ["-eA=b"], ["-e=A=b"], ["--env=A=b"]])
def test_short_value_is_the_next_word_or_the_rest_of_its_own(words: list[str]) -> None:
    assert parse(Args, [*words, "alpine"]).env == ["A=b"]


def test_flags_stand_together_and_the_last_may_take_a_value() -> None:
    args = parse(Args, ["-dite", "A=b", "alpine"])
    assert args.detach
    assert args.interactive
    assert args.tty
    assert args.env == ["A=b"]


def test_flag_is_taken_back_with_false() -> None:
    assert parse(Args, ["--sig-proxy=false", "alpine"]).proxy is False
    assert parse(Args, ["-t", "-t=false", "alpine"]).tty is False


def test_options_end_at_the_first_operand_of_a_command_that_wraps_another() -> None:
    args = parse(Wrapper, ["-d", "alpine", "ls", "-t", "--name", "x"])
    assert (args.detach, args.tty, args.name) == (True, False, "none")
    assert args.command == ["ls", "-t", "--name", "x"]


def test_options_may_follow_operands_elsewhere() -> None:
    args = parse(Args, ["alpine", "ls", "-d"])
    assert args.detach
    assert args.command == ["ls"]


def test_two_dashes_end_the_options() -> None:
    assert parse(Args, ["--", "alpine", "-d"]).command == ["-d"]


def test_value_may_begin_with_a_dash() -> None:
    assert parse(Args, ["--pids-limit", "-1", "alpine"]).pids == -1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--naem=x", "a"], "unknown flag: --naem (did you mean --name?)"),
        (["-x", "a"], "unknown shorthand flag: 'x' in -x"),
        (["a", "--name"], "flag needs an argument: --name"),
        (["--memory", "lots", "a"], "invalid value 'lots' for --memory: expected a size"),
        (["--pids-limit", "many", "a"], "expected a whole number"),
        (["--detach=perhaps", "a"], "invalid value 'perhaps' for --detach: expected true or false"),
        (["--pull", "often", "a"], "invalid value 'often' for --pull (one of always, never)"),
    ],
)
def test_what_cannot_be_read_is_named(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(Args, words)
    assert message in str(caught.value)


def test_missing_and_surplus_operands_are_named() -> None:
    class One(Arguments):
        name = operand("NAME")

    with pytest.raises(OperandsError, match="missing argument: NAME"):
        parse(One, [])
    with pytest.raises(OperandsError, match="unexpected argument: b"):
        parse(One, ["a", "b"])


def test_help_is_not_looked_for_in_the_command_of_a_container() -> None:
    with pytest.raises(HelpWanted):
        parse(Wrapper, ["-d", "--help", "alpine"])
    assert parse(Wrapper, ["alpine", "ls", "--help"]).command == ["ls", "--help"]


def test_one_dash_is_enough_for_a_long_option_where_go_would_take_it() -> None:
    args = parse(Args, ["-name=a", "-memory", "1m", "-sig-proxy=false", "-it", "b"], one_dash=True)
    assert (args.name, args.memory, args.proxy) == ("a", 1 << 20, False)
    assert (args.interactive, args.tty, args.image) == (True, True, "b")
    with pytest.raises(UsageError, match="unknown shorthand flag: 'n' in -name"):
        parse(Args, ["-name", "a", "b"])


@pytest.mark.parametrize(
    ("words", "trace"),
    [
        (["alpine", "a.json"], ""),
        (["--trace", "alpine", "a.json"], "-"),
        (["--trace", "-", "alpine", "a.json"], "-"),
        (["--trace", "b.json", "alpine", "a.json"], "b.json"),
        (["--trace=odd name", "alpine", "a.json"], "odd name"),
        (["--trace", "--tty", "alpine", "a.json"], "-"),
        (["--trace", "--", "alpine", "a.json"], "-"),
    ],
)
def test_option_that_may_stand_alone_takes_no_operand_for_its_value(
    words: list[str], trace: str
) -> None:
    args = parse(Wrapper, words)
    assert (args.trace, args.image, args.command) == (trace, "alpine", ["a.json"])


def test_option_that_may_stand_alone_may_be_the_last_word() -> None:
    assert parse(Args, ["alpine", "--trace"]).trace == "-"
