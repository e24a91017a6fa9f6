"""`ctr version`, `info`, `plugins` and `namespaces`."""

import json

import pytest

from orlop import __version__
from tests.integration.containerd.conftest import Ctr, FailedError
from tests.integration.engines import EngineProcess


def test_version_is_of_the_api_and_of_orlop(ctr: Ctr) -> None:
    server = ctr("version").partition("Server:")[2]
    assert f"+orlop.{__version__}" in server


def test_info_names_the_engine_and_its_process(engine: EngineProcess, ctr: Ctr) -> None:
    told = json.loads(ctr("info"))["server"]
    assert engine.process is not None
    assert int(told["pid"]) == engine.process.pid
    assert told["uuid"] == engine.out("info", "-f", "{{.ID}}")


def test_plugins_list_the_services_and_the_snapshotter(engine: EngineProcess, ctr: Ctr) -> None:
    rows = [line.split() for line in ctr("plugins", "ls").splitlines()[1:]]
    assert {"version", "introspection", "namespaces"} <= {
        row[1] for row in rows if row[0] == "io.containerd.grpc.v1"
    }
    drivers = [row[1] for row in rows if row[0] == "io.containerd.snapshotter.v1"]
    assert engine.out("info", "-f", "{{.Driver}}") in drivers
    assert {row[-1] for row in rows} == {"ok"}


def test_plugins_can_be_filtered(ctr: Ctr) -> None:
    assert ctr("plugins", "ls", "-q", "id==version", "id~=^namesp") == "namespaces\nversion\n"
    with pytest.raises(FailedError, match="the name of a field is missing at 0"):
        ctr("plugins", "ls", "==x")


def test_namespaces_are_created_labelled_and_removed(ctr: Ctr) -> None:
    ctr("namespaces", "create", "blue", "colour=navy", "size=7")
    assert ctr("namespaces", "ls").splitlines()[1].split() == ["blue", "colour=navy,size=7"]
    ctr("namespaces", "label", "blue", "colour=", "shape=round")
    assert ctr("namespaces", "ls").splitlines()[1].split() == ["blue", "shape=round,size=7"]
    with pytest.raises(FailedError, match="already exists"):
        ctr("namespaces", "create", "blue")
    assert ctr("namespaces", "rm", "blue") == "blue\n"
    assert ctr("namespaces", "ls", "-q") == ""


@pytest.mark.parametrize("name", ["a b", "-a", "a..b", "../x", "x" * 77])
def test_a_namespace_with_a_wrong_name_is_refused(ctr: Ctr, name: str) -> None:
    with pytest.raises(FailedError, match="invalid argument"):
        ctr("namespaces", "create", "--", name)
    assert ctr("namespaces", "ls", "-q") == ""


def test_namespaces_survive_the_engine(engine: EngineProcess, ctr: Ctr) -> None:
    ctr("namespaces", "create", "kept", "a=b")
    engine.stop()
    engine.start()
    assert ctr("namespaces", "ls").splitlines()[1].split() == ["kept", "a=b"]
    ctr("namespaces", "rm", "kept")


def test_what_is_not_there_is_unimplemented(ctr: Ctr) -> None:
    with pytest.raises(FailedError, match="not implemented"):
        ctr("sandboxes", "ls")
