"""What the docker command refuses, with the exit code that Docker's own engine gives."""

import pytest

from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"
pytestmark = pytest.mark.usefixtures("image")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--stop-signal", "BAD"), "Invalid signal: BAD"),
        (("--name", "/"), "Invalid container name"),
        (("--add-host", "x:nowhere"), "invalid IP address in add-host"),
        (("--oom-score-adj", "5000"), "-1000 to 1000"),
        (("--hostname", "x" * 65), "at most 64 bytes"),
        (("--entrypoint", ""), "no command specified"),
        (("--log-driver", "splunk"), 'looking up logging plugin splunk: plugin "splunk" not found'),
        (("--runtime", "kata"), "unknown or invalid runtime name: kata"),
        (("--pull", "never", "--platform", "linux/s390x"), "does not match the specified platform"),
    ],
)
def test_what_cannot_be_run_is_refused_before_it_is_made(
    engine: EngineProcess, options: tuple[str, ...], sentence: str
) -> None:
    done = engine.docker("run", *options, IMAGE, check=False)
    assert (done.returncode, sentence in done.stderr) == (125, True), done.stderr
    assert engine.out("ps", "-aq") == ""


def test_errors_call_a_container_by_its_name(engine: EngineProcess, name: str) -> None:
    made = engine.out("create", "--name", name, IMAGE, "no-such-command")
    done = engine.docker("start", name, check=False)
    assert f"cannot start container {name}:" in done.stderr
    assert made not in done.stderr
    assert name in engine.out("inspect", "-f", "{{.State.Error}}", name)


@pytest.mark.parametrize(
    ("options", "command", "code"),
    [
        ((), "no-such-command", 126),
        ((), "/etc/passwd", 126),
        (("-w", "/no/such"), "true", 126),
        (("-u", "nobody-knows"), "true", 126),
    ],
)
def test_an_exec_that_cannot_be_says_so_and_returns_126(
    engine: EngineProcess, name: str, options: tuple[str, ...], command: str, code: int
) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    done = engine.docker("exec", *options, name, command, check=False)
    assert done.returncode == code
    assert (done.stdout + done.stderr).startswith(
        f"orlop: cannot run a command in container {name}"
    )
    assert engine.docker("exec", name, "test", "-e", "/no", check=False).returncode == 1


@pytest.mark.parametrize("words", [("save", "host"), ("rmi", "host"), ("tag", "host", "mine")])
def test_the_built_in_image_is_not_stored(engine: EngineProcess, words: tuple[str, ...]) -> None:
    done = engine.docker(*words, check=False)
    assert done.returncode == 1
    assert "this machine's own" in done.stderr


def test_a_file_that_is_not_there_to_be_copied_is_named(engine: EngineProcess, name: str) -> None:
    engine.docker("create", "--name", name, "-v", "/data", IMAGE)
    for path in ("/no/such", "/data/no/such"):
        done = engine.docker("cp", f"{name}:{path}", "-", check=False)
        assert f"Could not find the file {path} in container {name}" in done.stderr
