"""RUN --mount: caches, files of stages, memory."""

from tests.integration.builds.conftest import Build
from tests.integration.builds.test_stages import steps
from tests.integration.engines import EngineProcess


def test_a_cache_outlives_the_build_and_reaches_no_layer(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    text = (
        f"FROM busybox:test\nARG N\nRUN --mount=type=cache,target=/cache,id={tag}"
        " echo $N >> /cache/log && cp /cache/log /seen\n"
    )
    build(text, "--build-arg", "N=1", "-t", tag)
    build(text, "--build-arg", "N=2", "-t", tag)
    assert engine.out("run", "--rm", tag, "cat", "/seen") == "1\n2"
    assert engine.out("run", "--rm", tag, "ls", "-d", "/cache", check=False) == ""


def test_files_of_the_context_and_of_stages_are_mounted_read_only(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    text = (
        "FROM busybox:test AS one\nRUN mkdir /d && echo of the stage > /d/f && chown 7 /d/f\n"
        "FROM busybox:test\nWORKDIR /w\n"
        "RUN --mount=target=ctx --mount=from=one,source=/d,target=/d,ro"
        " --mount=type=tmpfs,target=/t cat ctx/file /d/f && stat -c %u /d/f && ! touch ctx/x"
        " && touch /t/x && ls > /kept\n"
    )
    done = build(text, "-t", tag, files={"file": "of the context\n"})
    assert "of the context\nof the stage\n7\n" in done.stdout
    assert engine.out("run", "--rm", tag, "sh", "-c", "ls -d /d /t /w/ctx; cat /kept") == "ctx"
    assert steps(build(text, files={"file": "of the context\n"}))[-1] == "cached"
    assert steps(build(text, files={"file": "changed\n"}))[-1] == "RUN"


def test_a_mount_that_cannot_be_is_refused(build: Build) -> None:
    for mount, why in (
        ("type=ssh", "mounts of type 'ssh' are not supported"),
        ("type=cache", "a target is missing"),
        ("type=bind,target=/", "the target cannot be /"),
        ("target=/x,from=9", "no such stage"),
        ("target=/x,source=../..", "forbidden path outside the build context"),
        ("type=secret,id=s,required=true", "the secret 's' was not given"),
    ):
        done = build(f"FROM busybox:test\nRUN --mount={mount} true\n", check=False)
        assert "Dockerfile:2: RUN: " in done.stderr
        assert why in done.stderr


def test_a_locked_cache_can_be_mounted_twice(build: Build, tag: str) -> None:
    cache = f"--mount=type=cache,id={tag},sharing=locked"
    done = build(
        f"FROM busybox:test\nRUN {cache},target=/a {cache},target=/b echo here > /a/f && cat /b/f\n"
    )
    assert "here\n" in done.stdout


def test_owners_of_mounted_files_make_another_step(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    text = (
        "FROM busybox:test AS one\nARG N\nRUN echo x > /f && chown $N /f\nFROM busybox:test\n"
        "RUN --mount=from=one,source=/f,target=/f stat -c %u /f > /owner\n"
    )
    for owner in ("1", "2"):
        build(text, "--build-arg", f"N={owner}", "-t", tag)
        assert engine.out("run", "--rm", tag, "cat", "/owner") == owner
