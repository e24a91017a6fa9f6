"""What can be asked of a sandbox, what the engine is told, and what asking costs to import."""

import ast
import inspect
import pydoc
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import orlop
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.sandbox.options import Options
from tests.imports import modules_after

FACES = [orlop.Sandbox, orlop.Runner, orlop.Pool, orlop.Batch, orlop.Template]
ASYNCHRONOUS = [
    orlop.AsyncSandbox,
    orlop.AsyncRunner,
    orlop.AsyncPool,
    orlop.AsyncBatch,
    orlop.AsyncTemplate,
]
BETWEEN_MODULES = {"box", "many", "of", "release"}


def test_import_costs_nothing_until_a_name_is_used() -> None:
    assert {name for name in modules_after("import orlop") if name.startswith("orlop")} == {"orlop"}
    assert "asyncio" not in modules_after("import orlop; orlop.Sandbox")


def test_every_name_is_there_and_typed() -> None:
    stub = Path(orlop.__file__).with_suffix(".pyi").read_text()
    typed = {
        a.asname
        for node in ast.walk(ast.parse(stub))
        if isinstance(node, ast.ImportFrom)
        for a in node.names
    }
    assert set(orlop.__all__) == typed
    for name in orlop.__all__:
        assert getattr(orlop, name).__name__.endswith(name)
    with pytest.raises(AttributeError, match="nonsense"):
        orlop.nonsense  # type: ignore[attr-defined]  # noqa: B018 (that is the test)


def test_names_are_listed_before_they_are_used() -> None:
    listing = "import orlop; assert set(orlop.__all__) <= set(dir(orlop))"
    assert {name for name in modules_after(listing) if name.startswith("orlop")} == {"orlop"}
    shown = pydoc.plain(pydoc.render_doc(orlop))
    assert [name for name in orlop.__all__ if f"class {name}(" not in shown] == ["errors"]


@pytest.mark.parametrize("face", FACES)
def test_docstring_explains_every_option(face: type[Options]) -> None:
    names = {option.name for option in fields(face)}
    shown = inspect.getdoc(face) or ""
    if face is not orlop.Sandbox:
        assert "Sandbox" in shown
        names -= {option.name for option in fields(Options)}
    assert names <= set(re.findall(r"^    (\w+): \S", shown, re.MULTILINE))


@pytest.mark.parametrize("face", [*FACES, *ASYNCHRONOUS])
def test_an_object_shows_the_options_that_were_given(face: type[Options]) -> None:
    assert repr(face()) == f"{face.__name__}()"
    given = face(memory="64m", environment={"A": "b"})
    assert repr(given) == f"{face.__name__}(memory='64m', environment={{'A': 'b'}})"


@pytest.mark.parametrize("name", [name for name in orlop.__all__ if name != "errors"])
def test_every_public_verb_has_a_docstring(name: str) -> None:
    face = getattr(orlop, name)
    for verb, value in vars(face).items():
        if not verb.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert inspect.getdoc(getattr(face, verb)), verb


@pytest.mark.parametrize("face", [*FACES, *ASYNCHRONOUS])
def test_unknown_option_is_an_error_of_the_class_that_was_called(face: type[Options]) -> None:
    with pytest.raises(TypeError, match=rf"^{face.__name__}.__init__\(\) got .* 'memori'"):
        face(memori="1g")  # type: ignore[call-arg]
    assert inspect.signature(face).parameters["memory"].default is None


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [
        (orlop.Sandbox, orlop.AsyncSandbox),
        (orlop.Process, orlop.AsyncProcess),
        (orlop.Terminal, orlop.AsyncTerminal),
        (orlop.Pool, orlop.AsyncPool),
        (orlop.Template, orlop.AsyncTemplate),
        (orlop.Files, orlop.AsyncFiles),
        (orlop.Batch, orlop.AsyncBatch),
        (orlop.Runner, orlop.AsyncRunner),
    ],
)
def test_two_faces_have_the_same_verbs(blocking: type, asynchronous: type) -> None:
    assert verbs(blocking) == verbs(asynchronous)
    for name in verbs(blocking):
        ours, theirs = getattr(blocking, name), getattr(asynchronous, name)
        if inspect.isfunction(ours):
            assert parameters(ours) == parameters(theirs), name


def verbs(face: type) -> set[str]:
    return {name for name in dir(face) if not name.startswith("_")} - BETWEEN_MODULES


def parameters(verb: Any) -> list[tuple[str, object, object]]:
    found = inspect.signature(verb).parameters.values()
    return [(p.name, p.default, p.annotation) for p in found]


def test_options_become_a_create_request() -> None:
    body = Options(
        image="debian",
        memory="1.5g",
        cpus=0.5,
        pids=7,
        environment={"A": "b=c"},
        mounts=["/src:/src:ro"],
        network="bridge",
        ports={80: 8080},
    ).body()
    host = body["HostConfig"]
    assert (body["Image"], body["Env"]) == ("debian", ["A=b=c"])
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (1536 << 20, 500_000_000, 7)
    assert (host["Binds"], host["NetworkMode"]) == (["/src:/src:ro"], "bridge")
    assert host["PortBindings"] == {"80/tcp": [{"HostPort": "8080"}]}


@pytest.mark.parametrize(
    ("network", "neighbours", "is_apart"),
    [
        ("none", None, False),
        ("none", False, False),
        ("host", None, False),
        ("bridge", None, True),
        ("default", None, True),
        ("bridge", True, False),
        ("back", None, False),
        ("back", False, True),
    ],
)
def test_a_sandbox_is_apart_on_the_default_bridge_or_where_asked_for(
    network: str, neighbours: bool | None, is_apart: bool
) -> None:
    body = Options(network=network, neighbours=neighbours).body()
    asked = {"EndpointsConfig": {network: {"DriverOpts": {"icc": "false"}}}}
    assert body.get("NetworkingConfig") == (asked if is_apart else None)


@pytest.mark.parametrize("options", [{"keep": True}, {"disk": "1m"}, {"timed": True}], ids=str)
def test_what_a_template_cannot_have_is_refused(options: dict[str, Any]) -> None:
    (word,) = options
    with pytest.raises(UnsupportedError, match=f"a template cannot have {word}="):
        orlop.Template(**options)


def test_what_is_not_asked_for_is_not_sent() -> None:
    assert not {"Memory", "NanoCpus", "PidsLimit", "Tmpfs"} & Options().body()["HostConfig"].keys()


@pytest.mark.parametrize(
    ("given", "size"), [(5, 5), ("64k", 65536), ("2MiB", 2 << 20), ("1gb", 1 << 30)]
)
def test_sizes(given: int | str, size: int) -> None:
    assert Options(memory=given).body()["HostConfig"]["Memory"] == size


@pytest.mark.parametrize(
    "options",
    [
        {"image": ""},
        {"memory": ""},
        {"memory": "much"},
        {"memory": 0},
        {"memory": -1},
        {"memory": "inf"},
        {"cpus": 0},
        {"cpus": float("nan")},
        {"environment": {"A=B": "c"}},
        {"environment": {"": "c"}},
        {"ports": {80: 80}},
    ],
    ids=str,
)
def test_nonsense_is_refused_where_it_is_said(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        orlop.Sandbox(**options)
    with pytest.raises(InvalidArgumentError):
        orlop.AsyncSandbox(**options)
