"""Instructions of --change do what they do in a Dockerfile."""

import pytest

from orlop.errors import InvalidArgumentError
from orlop.images.changes import apply_changes
from orlop.model.image import Healthcheck, Process


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['CMD ["a", "b"]'], Process(cmd=("a", "b"))),
        (["cmd echo hi"], Process(cmd=("/bin/sh", "-c", "echo hi"))),
        (['SHELL ["/x"]', "ENTRYPOINT go"], Process(shell=("/x",), entrypoint=("/x", "go"))),
        (["ENV A=1 B='2 3'", "ENV A=4"], Process(env=("B=2 3", "A=4"))),
        (["ENV A=1", "ENV B=$A:${A}2 C=$NONE"], Process(env=("A=1", "B=1:12", "C="))),
        (["ENV A=1 B=$A", "ENV A=2 B=$A"], Process(env=("A=2", "B=1"))),
        (["ENV A=1", "ENV B=${A:-x}${C:-y}${A:+z}${C:+w}"], Process(env=("A=1", "B=1yz"))),
        (
            ["ENV A=1", r"""ENV B='$A' C=\$A D="$A b" """],
            Process(env=("A=1", "B=$A", "C=$A", "D=1 b")),
        ),
        (["ENV A=1", "ENV B $A the rest"], Process(env=("A=1", "B=1 the rest"))),
        (["ENV A=1", "LABEL a=$A"], Process(env=("A=1",), labels={"a": "1"})),
        (
            ["ENV A=1", "WORKDIR /$A", "USER $A", "EXPOSE $A"],
            Process(env=("A=1",), working_dir="/1", user="1", exposed_ports={"1/tcp": {}}),
        ),
        (
            ["ENV A=1", "VOLUME /$A", "STOPSIGNAL $A"],
            Process(env=("A=1",), volumes={"/1": {}}, stop_signal="1"),
        ),
        (["ENV A=1", "CMD echo $A"], Process(env=("A=1",), cmd=("/bin/sh", "-c", "echo $A"))),
        (["ENV A the rest"], Process(env=("A=the rest",))),
        (["EXPOSE 80 53/udp"], Process(exposed_ports={"80/tcp": {}, "53/udp": {}})),
        (['LABEL a=b "c d"=e'], Process(labels={"a": "b", "c d": "e"})),
        (["USER 7:8"], Process(user="7:8")),
        (["WORKDIR /a", "WORKDIR b/../c"], Process(working_dir="/a/c")),
        (['VOLUME ["/v", "/w"]'], Process(volumes={"/v": {}, "/w": {}})),
        (["VOLUME /v /w"], Process(volumes={"/v": {}, "/w": {}})),
        (["STOPSIGNAL SIGINT"], Process(stop_signal="SIGINT")),
        (["ONBUILD RUN x"], Process(on_build=("RUN x",))),
        (["HEALTHCHECK NONE"], Process(healthcheck=Healthcheck(test=("NONE",)))),
        (
            ["HEALTHCHECK --interval=1m30s --retries=3 CMD test -e /x"],
            Process(
                healthcheck=Healthcheck(
                    test=("CMD-SHELL", "test -e /x"), interval=90 * 10**9, retries=3
                )
            ),
        ),
    ],
)
def test_a_change_is_applied(changes: list[str], expected: Process) -> None:
    assert apply_changes(Process(), changes) == expected


@pytest.mark.parametrize(
    "change",
    [
        "",
        "RUN x",
        "ENV",
        "ENV A",
        "ENV A=${B",
        "ENV A=${B:?c}",
        "ENV =x",
        "EXPOSE http",
        "LABEL 'a",
        "USER",
        "SHELL x",
        "HEALTHCHECK x",
        "HEALTHCHECK --interval=often CMD x",
        "HEALTHCHECK --retries=x CMD x",
        "HEALTHCHECK --retries=-1 CMD x",
        "HEALTHCHECK --interval=1ns CMD x",
        "HEALTHCHECK --timeout=999us CMD x",
        "HEALTHCHECK --colour=1s CMD x",
    ],
)
def test_a_change_that_makes_no_sense_is_named(change: str) -> None:
    with pytest.raises(InvalidArgumentError, match="change"):
        apply_changes(Process(), [change])
