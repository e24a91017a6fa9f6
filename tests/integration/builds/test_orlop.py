"""orlop build and orlop builder."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.engines import EngineProcess


def orlop(
    engine: EngineProcess, *words: str, check: bool = True, **environment: str
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-P", "-m", "orlop", *words],
        env={**engine.environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def test_build_shows_steps_and_why_they_were_taken(
    engine: EngineProcess, image: str, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {image} AS one\nCOPY a /\nRUN echo loud; cat /a\n")
    (tmp_path / "a").write_text(f"{tag}\n")
    first = orlop(engine, "build", "-t", tag, "--explain", str(tmp_path))
    assert f"[one 3/3] RUN echo loud; cat /a\nloud\n{tag}\n" in first.stderr
    assert "it was not built before" in first.stderr
    assert first.stdout.strip() == engine.out("images", "-q", "--no-trunc", tag)
    again = orlop(engine, "build", str(tmp_path))
    assert again.stderr.count("    cached\n") == 2
    assert again.stdout == first.stdout
    (tmp_path / "a").write_text("changed")
    later = orlop(engine, "build", "--explain", "--iidfile", str(tmp_path / "id"), str(tmp_path))
    assert ", changed: files\n" in later.stderr
    assert ", changed: files below\n" in later.stderr
    assert (tmp_path / "id").read_text() == later.stdout.strip()
    told = orlop(engine, "build", "--progress", "json", str(tmp_path)).stdout.splitlines()
    assert {"kind": "cached", "stage": "one"}.items() <= json.loads(told[2])["build"].items()


def test_build_sends_what_dockerignore_lets_through_and_a_file_from_elsewhere(
    engine: EngineProcess, image: str, tag: str, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    (context / "d").mkdir(parents=True)
    for name in ("kept", "d/kept", "left.out", "d/left.out"):
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("**/*.out\nDockerfile\nd\n!d/kept\n")
    (tmp_path / "File").write_text(f'FROM {image}\nCOPY . /c/\nCMD ["find", "/c", "-type", "f"]\n')
    orlop(engine, "build", "-q", "-t", tag, "-f", str(tmp_path / "File"), str(context))
    found = set(engine.out("run", "--rm", tag).split())
    assert found - {"/c/.dockerfile-of-the-client"} == {"/c/kept", "/c/d/kept", "/c/.dockerignore"}


def test_a_secret_reaches_its_command_and_nothing_else(
    engine: EngineProcess, image: str, tag: str, tmp_path: Path
) -> None:
    secret = f"secret-{os.urandom(8).hex()}"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\n"
        "RUN --mount=type=secret,id=file,uid=7 stat -c %a:%u:%s /run/secrets/file > /seen\n"
        "RUN --mount=type=secret,id=var,dst=/v --mount=type=secret,id=none wc -c < /v >> /seen\n"
    )
    (tmp_path / "token").write_text(secret)
    given = ("--secret", f"id=file,src={tmp_path / 'token'}", "--secret", "id=var,env=TOKEN")
    (tmp_path / ".dockerignore").write_text("token\n")
    orlop(engine, "build", "-t", tag, *given, str(tmp_path), TOKEN=secret)
    assert engine.out("run", "--rm", tag, "cat", "/seen") == f"400:7:{len(secret)}\n{len(secret)}"
    assert engine.out("run", "--rm", tag, "ls", "-A", "/run", check=False) == ""
    places = [engine.root, engine.run, engine.run.parent / "engine.out"]
    found = subprocess.run(["grep", "-rl", secret, *places], capture_output=True, text=True)
    assert found.stdout == ""


def test_a_failed_build_ends_with_the_status_of_its_command(
    engine: EngineProcess, image: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nRUN echo why; exit 9\n")
    done = orlop(engine, "build", str(tmp_path), check=False)
    assert "why\n" in done.stderr
    assert "Dockerfile:2: the command" in done.stderr
    assert done.returncode == 1
    missing = orlop(engine, "build", str(tmp_path / "none"), check=False)
    assert "no folder" in missing.stderr


def test_prune_removes_what_no_image_has(
    engine: EngineProcess, image: str, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\nRUN --mount=type=cache,target=/c echo {tag} > /kept; touch /c/x\n"
    )
    orlop(engine, "builder", "prune", "-af")
    assert len(orlop(engine, "builder", "du").stdout.splitlines()) == 1
    orlop(engine, "build", "-q", "-t", tag, str(tmp_path))
    listed = orlop(engine, "builder", "du").stdout
    assert "RUN --mount=type=cache,target=/c" in listed
    assert "true" in listed
    engine.docker("builder", "prune", "-f")
    assert len(orlop(engine, "builder", "du").stdout.splitlines()) == 2  # the layer of the image
    engine.docker("rmi", tag)
    engine.docker("system", "prune", "-f", "--filter", "label=none")
    assert len(orlop(engine, "builder", "du").stdout.splitlines()) > 1
    assert "Total reclaimed space: " in orlop(engine, "builder", "prune", "-f").stdout
    assert len(orlop(engine, "builder", "du").stdout.splitlines()) == 1
