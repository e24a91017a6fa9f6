"""Instructions without files change an image's configuration."""

import pytest

from orlop.build.config import Scope, changed, joined
from orlop.build.parse import parse
from orlop.errors import InvalidArgumentError
from orlop.model.image import Healthcheck, Process


def after(text: str, **arguments: str) -> Process:
    process = Process(env=("PATH=/bin",))
    scope = Scope(arguments, "\\")
    for one in parse(f"FROM a\n{text}".encode()).stages[0].steps:
        process = changed(process, one, scope)
    return process


def test_each_instruction_sets_its_field() -> None:
    process = after(
        'CMD ["a", "b c"]\nENTRYPOINT x  y\nENV A=1 B="2 3"\nEXPOSE 80 53/udp\n'
        "LABEL l=$A m='$A'\n"
        "STOPSIGNAL SIGINT\nUSER 1:2\nVOLUME /v $A\nONBUILD RUN $A"
    )
    assert process == Process(
        cmd=("a", "b c"),
        entrypoint=("/bin/sh", "-c", "x  y"),
        env=("PATH=/bin", "A=1", "B=2 3"),
        exposed_ports={"80/tcp": {}, "53/udp": {}},
        labels={"l": "1", "m": "$A"},
        stop_signal="SIGINT",
        user="1:2",
        volumes={"/v": {}, "1": {}},
        on_build=("RUN $A",),
    )


def test_env_wins_over_arguments_and_replaces_in_place() -> None:
    process = after("ENV A=$X B=$X\nENV A=$A$X\nENV X=env\nLABEL x=$X", X="arg")
    assert process.env == ("PATH=/bin", "A=argarg", "B=arg", "X=env")
    assert process.labels == {"x": "env"}


def test_the_shell_is_used_for_later_commands() -> None:
    process = after('CMD a\nSHELL ["/bin/bash", "-c"]\nENTRYPOINT b')
    assert process.cmd == ("/bin/sh", "-c", "a")
    assert process.entrypoint == ("/bin/bash", "-c", "b")


def test_a_health_check_has_times_and_either_form() -> None:
    assert after('HEALTHCHECK --interval=3s --retries=2 CMD ["a", "b c"]').healthcheck == (
        Healthcheck(test=("CMD", "a", "b c"), interval=3 * 10**9, retries=2)
    )
    assert after("HEALTHCHECK CMD a b").healthcheck == Healthcheck(test=("CMD-SHELL", "a b"))
    assert after("HEALTHCHECK NONE").healthcheck == Healthcheck(test=("NONE",))


@pytest.mark.parametrize(
    "line",
    [
        "ENV", "USER", 'USER ""', "LABEL =x", "EXPOSE port", "EXPOSE 80$", "SHELL x",
        "HEALTHCHECK x", "HEALTHCHECK --interval=x CMD y", "VOLUME $NONE", "STOPSIGNAL ${A",
    ],
)  # fmt: skip
def test_a_wrong_instruction_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^Dockerfile:2: {line.split()[0]}: "):
        after(line)


@pytest.mark.parametrize(
    ("directory", "path", "expected"),
    [("", "a", "/a"), ("/w", "a/../b/", "/w/b"), ("/w", "/x", "/x"), ("/w", "../../..", "/")],
)
def test_a_path_is_joined_to_the_working_directory(
    directory: str, path: str, expected: str
) -> None:
    assert joined(directory, path) == expected
