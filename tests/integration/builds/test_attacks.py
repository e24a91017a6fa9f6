"""What tries to reach the host: contexts, archives, images, mounts; and engines that are killed."""

import contextlib
import io
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.integration.builds.conftest import Build
from tests.integration.builds.test_stages import steps
from tests.integration.engines import EngineProcess

Member = tuple[str, bytes, bytes | str]  # name, type, content or target


def archive(*members: Member) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o644
            if isinstance(content, str):
                info.linkname, content = content, b""
            if kind in (tarfile.BLKTYPE, tarfile.CHRTYPE):
                info.devmajor, info.devminor = 7, 0
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data.seek(0)
    return data


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host that a build must neither read nor change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("of the host")
    return folder


@pytest.fixture
def client(engine: EngineProcess, image: str) -> "Iterator[Any]":
    with contextlib.closing(docker.DockerClient(engine.url)) as client:
        yield client


def built(client: Any, context: io.BytesIO, **options: Any) -> str:
    """Send *context*; return the lines of the build with, at the end, its error."""
    try:
        lines = client.api.build(fileobj=context, custom_context=True, decode=True, **options)
        return "".join(line.get("stream", "") + line.get("error", "") for line in lines)
    except docker.errors.APIError as error:
        return str(error.explanation)


def unchanged(outside: Path) -> bool:
    return [path.name for path in outside.iterdir()] == ["secret"] and not stat.S_IMODE(
        (outside / "secret").stat().st_mode
    ) & 0o111


def test_links_in_a_context_lead_nowhere_else(client: Any, outside: Path) -> None:
    text = (
        b"FROM busybox:test\nCOPY o* up /all/\nRUN find /all | sort\nCOPY out/new /new\n"
        b"RUN --mount=source=out,target=/m ls /m\nCOPY direct /direct\n"
    )
    context = archive(
        ("out", tarfile.SYMTYPE, str(outside)),
        ("out/new", tarfile.REGTYPE, b"x"),
        ("up", tarfile.SYMTYPE, "../../../../../../.." + str(outside)),
        ("direct", tarfile.SYMTYPE, f"{outside}/secret"),
        ("Dockerfile", tarfile.REGTYPE, text),
    )
    told = built(client, context)
    assert "COPY: direct: not found" in told
    assert "/all/new" in told  # of the folder in the context that the link means there
    assert "secret" not in told.partition("Step 6")[0]
    assert unchanged(outside)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("dev", tarfile.BLKTYPE, b"")], "the build context has a device: dev"),
        ([("Dockerfile", tarfile.SYMTYPE, "/etc/passwd")], "Cannot locate"),
        ([("Dockerfile", tarfile.FIFOTYPE, b"")], "is not a regular file"),
        ([("Dockerfile", tarfile.DIRTYPE, b"")], "is not a regular file"),
        ([("x", tarfile.LNKTYPE, "/etc/passwd")], "hard link"),
        ([("a/" * 3000 + "x", tarfile.REGTYPE, b"")], "impossible file name"),
        ([], "Cannot locate"),
    ],
)
def test_a_context_that_is_no_folder_of_files_is_refused(
    engine: EngineProcess, client: Any, members: list[Member], why: str
) -> None:
    assert why in built(client, archive(*members))
    assert "Traceback" not in engine.log()
    assert not list((engine.root / "builds").iterdir())


def test_bytes_that_are_no_archive_are_refused(client: Any) -> None:
    assert "tar header" in built(client, io.BytesIO(b"FROM busybox:test\n" * 100))


def test_links_of_the_image_do_not_lead_to_the_host(
    engine: EngineProcess, build: Build, tag: str, outside: Path
) -> None:
    up = "../../../../../../.."
    build(
        f"FROM busybox:test\nRUN ln -s {outside} /abs && ln -s {up}{outside} /rel\n"
        "COPY Dockerfile /abs/\nCOPY Dockerfile /rel/new/\nWORKDIR /abs/made\n"
        "ADD Dockerfile /abs/deep/er/\n"
        "RUN --mount=type=cache,target=/abs/cache --mount=type=tmpfs,target=/rel/t"
        " --mount=target=/abs/ctx touch /abs/cache/x /rel/t/x\n",
        *("-t", tag),
    )
    assert unchanged(outside)
    found = engine.out("run", "--rm", tag, "ls", str(outside)).split()
    assert {"Dockerfile", "deep", "made", "new"} <= set(found)
    denied = build(f"FROM {tag}\nCOPY --from={tag} /abs/secret /x\n", check=False)
    assert "COPY: abs/secret: not found" in denied.stderr


def test_an_archive_stays_in_the_folder_that_it_is_added_to(
    engine: EngineProcess, build: Build, tag: str, outside: Path, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/a.tar").write_bytes(
        archive(
            ("../../../up", tarfile.REGTYPE, b"x"),
            (f"{outside}/absolute", tarfile.REGTYPE, b"x"),
            ("link", tarfile.SYMTYPE, str(outside)),
            ("link/through", tarfile.REGTYPE, b"x"),
        ).getvalue()
    )
    build("FROM busybox:test\nADD a.tar /to/\n", "-t", tag)
    assert unchanged(outside)
    listed = engine.out("run", "--rm", tag, "find", "/to", "/up", str(outside), check=False)
    assert {"/to/up", f"/to{outside}/absolute", f"{outside}/through"} <= set(listed.split())
    (tmp_path / "context/a.tar").write_bytes(archive(("d", tarfile.CHRTYPE, b"")).getvalue())
    assert "a.tar has a device" in build("FROM busybox:test\nADD a.tar /\n", check=False).stderr


def test_a_cache_that_holds_a_link_shows_no_file_of_the_host(
    build: Build, outside: Path, tag: str
) -> None:
    mount = f"RUN --mount=type=cache,target=/c,id={tag}"
    build(f"FROM busybox:test\n{mount} ln -s {outside} /c/link\n")
    done = build(
        f"FROM busybox:test\n{mount} ls /c/link/secret; touch /c/link/x; id\n"
        f"RUN --mount=type=cache,target=/c/link/y,id={tag}2 --mount=type=cache,target=/c,id={tag}"
        " true\n",
        check=False,
    )
    assert "of the host" not in done.stdout
    assert unchanged(outside)


def test_an_engine_killed_in_a_build_leaves_only_the_cache(
    engine: EngineProcess, build: Build, tag: str, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    text = f"FROM busybox:test\nRUN echo {tag} > /first\nRUN sleep 1000\n"
    (context / "Dockerfile").write_text(text)
    with subprocess.Popen(
        ["docker", "build", str(context)],
        env={**engine.environment(), "DOCKER_BUILDKIT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        deadline = time.monotonic() + 30
        while "sleep 1000" not in engine.out("ps", "--no-trunc", "--format", "{{.Command}}"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        engine.stop(signal.SIGKILL)
        running.wait(30)
    engine.start()
    deadline = time.monotonic() + 30
    while engine.out("ps", "-aq"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list((engine.root / "builds").iterdir())
    names = [path.name for path in engine.root.glob("snapshots/*/snapshots/*")]
    assert names == []
    assert steps(build(text.replace("1000", "0"), "-t", tag)) == ["FROM", "cached", "RUN"]


def test_a_client_that_goes_ends_the_build(
    engine: EngineProcess, image: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nRUN sleep 1001\n")
    with subprocess.Popen(
        ["docker", "build", str(tmp_path)],
        env={**engine.environment(), "DOCKER_BUILDKIT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        deadline = time.monotonic() + 30
        while "sleep 1001" not in engine.out("ps", "--no-trunc", "--format", "{{.Command}}"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.kill()
    while engine.out("ps", "-aq") or list((engine.root / "builds").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
