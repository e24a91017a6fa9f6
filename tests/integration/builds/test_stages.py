"""Stages, the cache, and what instructions do with files."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.integration.builds.conftest import Build
from tests.integration.engines import EngineProcess


def steps(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return the instructions that a build took, "cached" in place of one that it only found."""
    found: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith("Step "):
            found.append(line.partition(" : ")[2].split()[0])
        elif line == " ---> Using cache":
            found[-1] = "cached"
    return found


def test_files_come_from_stages_and_images_and_unneeded_stages_are_left_out(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    done = build(
        "ARG BASE=busybox:test\nFROM $BASE AS one\nRUN mkdir /out && echo one > /out/file\n"
        "FROM busybox:test AS unneeded\nRUN exit 1\n"
        "FROM scratch AS both\nCOPY --from=one /out/ /copied/\n"
        "COPY --from=busybox:test /bin/busybox /bin/busybox\n"
        "FROM both\nCOPY --from=0 out/file /\n"
        'CMD ["/bin/busybox", "cat", "/file", "/copied/file"]\n',
        "-t",
        tag,
    )
    assert "exit 1" not in done.stdout
    assert engine.out("run", "--rm", tag) == "one\none"
    build(
        "FROM busybox:test AS a\nRUN echo a > /a\nFROM a\nRUN exit 1\n", "--target", "A", "-t", tag
    )
    assert engine.out("run", "--rm", tag, "cat", "/a") == "a"
    failed = build("FROM busybox:test\n", "--target", "none", check=False)
    assert "target stage 'none' could not be found" in failed.stderr


def test_a_build_with_the_same_inputs_finds_everything(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    text = (
        "FROM busybox:test AS a\nARG V=1\nCOPY one two /src/\nRUN cat /src/one > /both; echo $V\n"
        "FROM busybox:test\nENV A=b\nCOPY --from=a /both /\nWORKDIR /new\nRUN echo late\n"
    )
    files = {"one": tag, "two": "2"}
    first = build(text, "-t", tag, files=files)
    assert "cached" not in steps(first)
    again = build(text, files=files)
    assert steps(again) == [
        *("FROM", "ARG", "cached", "cached"),
        *("FROM", "ENV", "cached", "cached", "cached"),
    ]
    assert first.stdout.splitlines()[-2] == again.stdout.splitlines()[-1]  # the same image
    later = build(text, files={"one": tag, "two": "changed"})  # which the second stage never sees
    assert steps(later) == ["FROM", "ARG", "COPY", "RUN", "FROM", "ENV", *["cached"] * 3]
    other = build(text, "--build-arg", "V=2", files={"two": "2"})
    assert steps(other) == ["FROM", "ARG", "cached", "RUN", "FROM", "ENV", *["cached"] * 3]
    assert "cached" not in steps(build(text, "--no-cache"))


def test_the_cache_outlives_the_engine_and_the_images(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    text = f"FROM busybox:test\nRUN echo {tag} > /made\n"
    build(text, "-t", tag)
    engine.docker("rmi", tag)
    engine.docker("image", "prune", "-f")
    engine.stop()
    engine.start()
    assert steps(build(text, "-t", tag)) == ["FROM", "cached"]
    assert engine.out("run", "--rm", tag, "cat", "/made") == tag


def test_copy_chooses_names_owners_and_places(
    engine: EngineProcess, build: Build, tag: str, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    (context / "tree/deep").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "c.md", "tree/x.txt", "tree/deep/y.md"):
        (context / name).write_text(name)
    (context / "link").symlink_to("tree/x.txt")
    (context / "tree/inner").symlink_to("/etc/passwd")
    build(
        "FROM busybox:test\nRUN ln -s /real /linked && mkdir /real\nWORKDIR /w\n"
        "COPY *.txt all/\nCOPY a.txt renamed\nCOPY a.txt /real\nCOPY tree /linked\n"
        "COPY --chown=7:8 --chmod=0700 link followed\nCOPY --parents tree/deep/*.md /p/\n"
        "COPY --exclude=deep --exclude=*.md tree /some/\n"
        'COPY ["c.md", "with space"]\nCOPY <<one <<"two" /docs/\n$PATH\none\n$PATH\ntwo\n',
        "-t",
        tag,
    )
    listed = "find /w /real /p /some /docs -type f -o -type l"
    assert set(engine.out("run", "--rm", tag, "sh", "-c", listed).split("\n")) == {
        *("/w/all/a.txt", "/w/all/b.txt", "/w/renamed", "/w/followed", "/w/with space"),
        *("/real/a.txt", "/real/x.txt", "/real/deep/y.md", "/real/inner"),
        *("/p/tree/deep/y.md", "/some/x.txt", "/some/inner", "/docs/one", "/docs/two"),
    }
    shown = engine.out("run", "--rm", tag, "stat", "-c", "%a %u:%g %s", "followed")
    assert shown == f"700 7:8 {len('tree/x.txt')}"
    assert engine.out("run", "--rm", tag, "readlink", "/real/inner") == "/etc/passwd"
    assert engine.out("run", "--rm", tag, "cat", "/docs/one", "/docs/two") == "/bin\n$PATH"


def test_add_unpacks_archives_and_copies_what_is_none(
    engine: EngineProcess, build: Build, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "inner").write_text("inside")
    with tarfile.open(tmp_path / "context/files.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "inner", "sub/inner")
    build(
        "FROM busybox:test\nADD files.tar.gz plain /here/\nCOPY files.tar.gz /there/\n",
        *("-t", tag),
        files={"plain": "x"},
    )
    found = engine.out("run", "--rm", tag, "sh", "-c", "cd /; find here there -type f | sort")
    assert found.split() == ["here/plain", "here/sub/inner", "there/files.tar.gz"]


def test_triggers_of_the_base_run_in_the_next_build(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    base = f"{tag}-base"
    build('FROM busybox:test\nONBUILD COPY file /\nONBUILD RUN cat /file\nCMD ["x"]\n', "-t", base)
    done = build(f'FROM {base}\nENTRYPOINT ["cat"]\n', "-t", tag, files={"file": "triggered\n"})
    assert "triggered\n" in done.stdout
    config = json.loads(engine.out("inspect", tag))[0]["Config"]
    assert (config["OnBuild"], config["Cmd"], config["Entrypoint"]) == (None, None, ["cat"])


def test_users_shells_and_heredocs_of_commands(
    engine: EngineProcess, build: Build, tag: str
) -> None:
    done = build(
        'FROM busybox:test\nSHELL ["/bin/sh", "-ec"]\nUSER 7:8\nRUN <<EOF\nid -u\nid -g\nEOF\n'
        "RUN cat <<one && cat <<'two'\n$PATH\none\n$PATH\ntwo\n",
        *("-t", tag, "--label", "who=me"),
    )
    assert "7\n8\n" in done.stdout
    assert "/bin\n$PATH\n" in done.stdout
    config = json.loads(engine.out("inspect", tag))[0]["Config"]
    assert (config["User"], config["Labels"]) == ("7:8", {"who": "me"})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("FROM busybox:test\nCOPY missing /\n", "Dockerfile:2: COPY: missing: not found"),
        ("FROM busybox:test\nCOPY ../x /\n", "forbidden path outside the build context"),
        ("FROM busybox:test\nCOPY no*thing /\n", "Dockerfile:2: COPY: no file matches"),
        ("FROM busybox:test\nCOPY --from=3 x /\n", "no such stage"),
        ("FROM busybox:test\nCOPY --what x /\n", "unknown flag: --what"),
        ("FROM busybox:test\nCOPY --chown=nobody:x Dockerfile /\n", "--chown=nobody:x"),
        ("FROM busybox:test\nCOPY Dockerfile Dockerfile /x\n", "must be a folder"),
        ("FROM busybox:test\nRUN\n", "Dockerfile:2: RUN: a command is missing"),
        ("FROM host\n", "nothing can be built from it"),
        ("FROM $NONE\n", "should not be blank"),
        ("FROM busybox:test\nRUN --network=host x\n", "--network=host needs"),
        ("NOTHING\n", "Dockerfile:1: unknown instruction: NOTHING"),
    ],
)
def test_a_wrong_instruction_is_named(build: Build, text: str, why: str) -> None:
    done = build(text, check=False)
    assert done.returncode == 1
    assert why in done.stderr
