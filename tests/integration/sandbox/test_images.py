"""Images described in Python are built once, and sandboxes begin with them."""

import io
from pathlib import Path

import pytest

import orlop
from orlop.errors import CommandFailedError, InvalidArgumentError, NotFoundError, OrlopError
from tests.integration.engines import EngineProcess

VALUE = 'it\'s "$HOME" \\ `x`'


@pytest.fixture(scope="module")
def base(engine: EngineProcess, busybox_archive: Path) -> orlop.Image:
    engine.docker("load", "-i", str(busybox_archive))
    return orlop.Image.base("busybox:test")


def test_a_sandbox_begins_with_the_steps_of_its_image(
    engine: EngineProcess, base: orlop.Image, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/inner").write_text("inside")
    (tmp_path / "it's $one").write_text("alone")
    image = (
        base.environment({"V": VALUE})
        .workdir("/w")
        .copy(str(tmp_path / "folder"), "/copied/$x")
        .copy(str(tmp_path / "it's $one"), "./")
        .run('echo "$V" > v', "echo two\necho lines >> v")
        .user("7:8")
    )
    with orlop.Sandbox(image=image, engine=engine.url) as box:
        assert box.run(["cat", "v"]).stdout == f"{VALUE}\nlines\n".encode()
        assert box.run(["sh", "-c", "id -u; pwd; echo $V"]).stdout == f"7\n/w\n{VALUE}\n".encode()
        assert box.run(["cat", "/copied/$x/inner", "it's $one"]).stdout == b"insidealone"
    with orlop.Sandbox(image=base, engine=engine.url) as box:
        assert box.run(["ls", "/copied"]).exit_code != 0


def test_a_build_shows_its_steps_and_is_found_again(
    engine: EngineProcess, base: orlop.Image
) -> None:
    shown = io.StringIO()
    image = base.run("echo loud")
    built = image.build(tag="python:built", show=shown, engine=engine.url)
    assert "loud\n" in shown.getvalue()
    assert base.run("echo loud").build(engine=engine.url) == built
    assert engine.out("images", "-q", "--no-trunc", "python:built") == built
    assert image.dockerfile.splitlines()[0] == "FROM busybox:test"


def test_a_failed_build_says_what_the_command_wrote(
    engine: EngineProcess, base: orlop.Image
) -> None:
    with pytest.raises(CommandFailedError, match=r"(?s)non-zero code: 3; it wrote: why") as error:
        base.run("echo why >&2; exit 3").build(engine=engine.url)
    assert error.value.code == 3
    with pytest.raises(OrlopError, match="not found"):
        base.dockerfile_lines("COPY missing /").build(engine=engine.url)
    with pytest.raises(NotFoundError, match="no file /none"):
        base.copy("/none", "/x").build(engine=engine.url)


def test_what_is_no_image_is_refused(base: orlop.Image) -> None:
    for wrong in ("", "a b", "x\nRUN y", "$x"):
        with pytest.raises(InvalidArgumentError):
            orlop.Image.base(wrong)
    with pytest.raises(InvalidArgumentError):
        base.environment({"A": "two\nlines"})
    with pytest.raises(InvalidArgumentError):
        orlop.Sandbox(image=3)  # type: ignore[arg-type] # that is the point


def test_packages_are_quoted_and_their_downloads_kept() -> None:
    image = orlop.Image.base("debian:13").apt("git", "x;y").pip("a>=1")
    _, apt, pip = image.dockerfile.splitlines()
    assert "install -y --no-install-recommends git 'x;y'" in apt
    assert "target=/var/cache/apt,sharing=locked" in apt
    assert "pip install --disable-pip-version-check 'a>=1'" in pip
