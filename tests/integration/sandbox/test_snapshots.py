"""Snapshots: images of a sandbox's files, run as what the sandbox was made of is run."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

import orlop
from tests.integration.engines import EngineProcess, docker_archive

ENTRYPOINT, CMD = ["sh", "-c"], ["cat /made"]


@pytest.fixture(scope="module")
def image(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with an entrypoint and a command."""
    archive = docker_archive(
        tmp_path_factory.mktemp("image") / "worded.tar",
        tags=["worded:test"],
        config={"Env": ["PATH=/bin"], "Entrypoint": ENTRYPOINT, "Cmd": CMD},
    )
    engine.docker("load", "-i", str(archive))
    yield "worded:test"
    engine.docker("rmi", "-f", "worded:test")


def words_of(engine: EngineProcess, image: str) -> tuple[Any, Any]:
    config = json.loads(engine.out("inspect", "-f", "{{json .Config}}", image))
    return config.get("Entrypoint"), config.get("Cmd")


@pytest.mark.parametrize("name", [None, "usual"])  # with a name it is started in the usual way
def test_snapshot_is_run_as_its_image_is(
    engine: EngineProcess, image: str, name: str | None
) -> None:
    try:
        with orlop.Sandbox(engine=engine.url, image=image, name=name) as box:
            box.run(["sh", "-c", "echo set >/made"])
            box.snapshot("taken:1")
            (fork,) = box.fork()
            fork.snapshot("taken:2")
        for taken in ("taken:1", "taken:2"):
            assert words_of(engine, taken) == (ENTRYPOINT, CMD)
            assert engine.out("run", "--rm", taken) == "set"
    finally:
        engine.docker("rmi", "-f", "taken:1", "taken:2", check=False)


def test_command_of_a_sandboxs_own_is_its_snapshots(engine: EngineProcess, image: str) -> None:
    words = ["sh", "-c", "while :; do sleep 600; done"]
    try:
        with orlop.Sandbox(engine=engine.url, image=image, command=words) as box:
            box.snapshot("taken:1")
        assert words_of(engine, "taken:1") == (words[:1], words[1:])
    finally:
        engine.docker("rmi", "-f", "taken:1", check=False)


def test_a_snapshot_taken_in_a_user_namespace_has_its_owners(
    engine: EngineProcess, image: str
) -> None:
    namespace = "2017460224:65536"
    try:
        with orlop.Sandbox(engine=engine.url, image=image, userns=namespace) as box:
            box.files.write("/theirs", b"", user="12:34")
            assert box.run(["sh", "-c", "echo set >/made"]).exit_code == 0
            box.snapshot("taken:1")
        for userns in (namespace, ""):
            with orlop.Sandbox(engine=engine.url, image="taken:1", userns=userns) as box:
                told = box.run(["sh", "-c", "cat /made; stat -c %u:%g /made /theirs"])
                assert told.stdout.split() == [b"set", b"0:0", b"12:34"]
    finally:
        engine.docker("rmi", "-f", "taken:1", check=False)
