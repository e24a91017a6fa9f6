"""Classic builds: POST /build by docker's CLI without buildx, and by docker-py."""

import contextlib
import json
import shutil
import tarfile
from pathlib import Path

import docker
import pytest

from tests.integration.builds.conftest import Build
from tests.integration.engines import BUSYBOX, EngineProcess


def test_docker_builds_a_file_a_command_and_a_default(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    done = build(
        "FROM busybox:test\nWORKDIR /app\nENV WHO=world\nCOPY greet lib/ ./\n"
        'RUN sh greet > out && mkdir /made\nCMD ["cat", "out"]\n',
        "-t",
        tag,
        files={"greet": "echo hello $WHO\n", "lib/inner/file": "x"},
    )
    assert "Step 5/6 : RUN sh greet > out && mkdir /made" in done.stdout
    assert f"Successfully tagged {tag}" in done.stdout
    assert engine.out("run", "--rm", tag) == "hello world"
    assert engine.out("run", "--rm", tag, "ls", "-d", "/made", "/app/inner/file") == (
        "/app/inner/file\n/made"
    )
    found = json.loads(engine.out("image", "inspect", tag))[0]["Config"]
    assert (found["WorkingDir"], found["Env"]) == ("/app", ["PATH=/bin", "WHO=world"])
    history = engine.out("history", "--no-trunc", "--format", "{{.CreatedBy}}", tag).splitlines()
    assert history[0] == 'CMD ["cat", "out"]'
    assert history[1] == "RUN /bin/sh -c sh greet > out && mkdir /made"


def test_docker_py_builds_and_gets_the_image(
    engine: EngineProcess, image: str, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nRUN echo built by docker-py\n")
    with contextlib.closing(docker.DockerClient(engine.url)) as client:
        built, lines = client.images.build(path=str(tmp_path), tag=tag, rm=True)
        assert built.tags == [tag]
        assert "built by docker-py\n" in "".join(line.get("stream", "") for line in lines)
        (tmp_path / "Dockerfile").write_text(f"FROM {image}\nRUN echo why >&2; exit 7\n")
        with pytest.raises(docker.errors.BuildError, match="returned a non-zero code: 7") as error:
            client.images.build(path=str(tmp_path))
        assert "why\n" in "".join(line.get("stream", "") for line in error.value.build_log)


def test_a_layer_has_what_a_command_wrote_and_no_mount_points(
    engine: EngineProcess, build: Build, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    shutil.copy(BUSYBOX, tmp_path / "context")
    build(
        'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "touch", "/mine"]\n',
        "-t",
        tag,
    )
    box = engine.out("create", tag, "x")
    engine.docker("export", "-o", str(tmp_path / "root.tar"), box)
    engine.docker("rm", box)
    with tarfile.open(tmp_path / "root.tar") as tar:
        assert set(tar.getnames()) - {"."} == {".dockerenv", "bin", "bin/busybox", "mine"}


def test_a_commit_has_no_mount_points(
    engine: EngineProcess, build: Build, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    shutil.copy(BUSYBOX, tmp_path / "context")
    build("FROM scratch\nCOPY busybox /bin/busybox\n", "-t", tag)
    box = engine.out("create", "-v", "/data", tag, "/bin/busybox", "touch", "/mine")
    engine.docker("start", "-a", box)
    engine.docker("commit", box, f"{tag}-committed")
    engine.docker("rm", "-v", box)
    box = engine.out("create", f"{tag}-committed", "x")
    engine.docker("export", "-o", str(tmp_path / "root.tar"), box)
    engine.docker("rm", box)
    with tarfile.open(tmp_path / "root.tar") as tar:
        assert set(tar.getnames()) - {"."} == {".dockerenv", "bin", "bin/busybox", "mine"}


def test_a_failed_command_leaves_nothing(engine: EngineProcess, build: Build, tag: str) -> None:
    before = engine.out("ps", "-aq"), engine.out("images", "-aq")
    done = build("FROM busybox:test\nRUN echo shown; exit 3\n", "-t", tag, check=False)
    assert done.returncode == 3
    assert "shown" in done.stdout
    assert "Dockerfile:2" in done.stderr
    assert (engine.out("ps", "-aq"), engine.out("images", "-aq")) == before
    assert not list((engine.root / "builds").iterdir())
