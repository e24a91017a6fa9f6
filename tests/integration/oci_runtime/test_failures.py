"""What goes wrong is a line of the log, a sentence and an exit code; or told, and gone on with."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.errors import OrlopError
from orlop.lifecycle import create, patience
from orlop.lifecycle import start as starting
from orlop.lifecycle.folder import Folder
from orlop.runtime.cgroups import control
from orlop.runtime.cgroups.layout import detect
from tests.integration.oci_runtime.faulty import write_faulty
from tests.integration.oci_runtime.program import OCIBundle, Program

DEFECT = "internal error: KeyError: 'fault'; this is a bug of orlop-runtime"


@pytest.fixture
def faulty(program: Program, tmp_path: Path) -> Program:
    """The program with a defect; its containers are *program*'s."""
    made = Program(tmp_path, script=write_faulty(tmp_path / "faulty"))
    made.ids = program.ids
    return made


def logged(log: Path) -> list[dict[str, str]]:
    """Return the lines of a log in JSON, and empty it."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("")
    return lines


@pytest.mark.parametrize(("command", "code"), [("state", 1), ("exec", 255), ("create", 1)])
def test_defect_is_told_in_the_log_and_in_a_sentence(
    program: Program, faulty: Program, bundle: OCIBundle, tmp_path: Path, command: str, code: int
) -> None:
    name = program.id() if command == "create" else program.running(bundle)
    words = [command, name, *(["true"] if command == "exec" else [])]
    log = tmp_path / "log"
    done = faulty.call("--log", log, "--log-format", "json", *words, cwd=bundle.write())
    assert done.returncode == code
    assert done.stderr.startswith(DEFECT)
    assert done.stderr.count("\n") == 1
    assert [(line["level"], line["msg"]) for line in logged(log)] == [("error", done.stderr[:-1])]

    faulty.call("--log", log, *words, cwd=bundle.folder)
    (line,) = log.read_text().splitlines()
    assert f'level=error msg="{DEFECT}' in line

    debugged = faulty.call("--debug", *words, cwd=bundle.folder)
    assert debugged.returncode == code
    assert 'raise KeyError("fault")' in debugged.stderr
    assert not (program.root / name).exists() or command != "create"


def test_too_little_memory_is_said(program: Program, bundle: OCIBundle, tmp_path: Path) -> None:
    bundle.process["env"] += [f"A{number}={'x' * 1000}" for number in range(12_000)]
    program.prefix = ("prlimit", f"--as={40 << 20}")
    log = tmp_path / "log"
    words = ["create", "--bundle", str(bundle.write()), program.id()]
    assert "too little memory" in program.refused("--log", log, *words)
    program.prefix = ()
    assert "too little memory" in log.read_text()


@pytest.mark.parametrize("text", ["[]", "{}", "null", "{", '{"id": 1}'])
def test_damaged_record_is_named_and_hides_no_other(
    program: Program, bundle: OCIBundle, text: str
) -> None:
    sound, name = program.running(bundle), program.running(bundle)
    file = program.root / name / "state.json"
    kept = file.read_text()
    file.write_text(text)
    for words in (["state", name], ["kill", name], ["exec", name, "true"], ["delete", name]):
        assert f"state.json of container {name} is damaged" in program.refused(*words)
    listed = program.call("list", "--quiet")
    assert (listed.returncode, listed.stdout) == (0, f"{sound}\n")
    assert f'level=warning msg="state.json of container {name} is damaged' in listed.stderr
    file.write_text(kept)


def test_output_that_cannot_be_written_is_told(program: Program) -> None:
    with open("/dev/full", "w") as full:
        assert "no space left on device" in program.refused("features", stdout=full)
    reader, writer = os.pipe()
    os.close(reader)
    done = program.call("features", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")  # as of whoever is read by head


def test_log_that_cannot_be_written_leaves_the_sentence(program: Program) -> None:
    done = program.call("--log", "/none/log", "state", "none")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "cannot open log /none/log: No such file or directory",
        "container does not exist",
    ]
    assert "container does not exist" in program.refused("--log", "/dev/full", "state", "none")


def test_closed_standard_streams_are_the_null_device(program: Program, bundle: OCIBundle) -> None:
    """Else a file of ours, opened next, would be the container's input or output."""
    bundle.process["args"] = [
        "sh",
        "-c",
        "for n in 0 2; do readlink /proc/self/fd/$n; done > /tmp/seen",
    ]
    words = [str(program.script), "--root", str(program.root), "run", "--bundle"]
    closing = [
        "sh",
        "-c",
        'exec "$@" <&- >&- 2>&-',
        "sh",
        *words,
        str(bundle.write()),
        program.id(),
    ]
    assert subprocess.run(closing, check=False, timeout=60).returncode == 0
    assert (bundle.root / "tmp/seen").read_text() == "/dev/null\n" * 2


def test_what_cannot_be_raised_or_lowered_is_said_once(
    program: Program, bundle: OCIBundle, tmp_path: Path
) -> None:
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 5000, "hard": 6000},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    bundle.process["oomScoreAdj"] = -7
    bundle.process["args"] = [
        *("sh", "-c", "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; exec sleep 600")
    ]
    program.prefix = ("setpriv", "--bounding-set=-sys_resource", "prlimit", "--nofile=900:2000")
    name, log = program.id(), tmp_path / "log"
    words = ["--log", str(log), "--log-format", "json"]
    with open(bundle.output, "w") as file:
        created = [*words, "create", "--bundle", str(bundle.write()), name]
        program.ok(*created, stdout=file, stderr=file)
        program.ok(*words, "start", name)
    assert program.ok(*words, "exec", name, "sh", "-c", "ulimit -Hn") == "2000\n"
    assert [(line["level"], line["msg"]) for line in logged(log)] == [
        ("warning", "process.rlimits: not ours to raise: RLIMIT_NOFILE (stays at 2000)"),
        ("warning", "process.oomScoreAdj: not ours to lower: stays at 0"),
    ]
    assert bundle.output.read_text().split() == ["2000", "2000", "0"]


@contextlib.contextmanager
def frozen_freezer(name: str) -> Iterator[None]:
    """Have cgroup *name* of the v1 freezer frozen, which keeps what is in it from dying."""
    folders = [h.mountpoint for h in detect().v1 if "freezer" in h.controllers]
    if not folders:
        pytest.skip("this host has no v1 freezer")
    folder = Path(folders[0], name)
    folder.mkdir()
    (folder / "freezer.state").write_text("FROZEN")
    try:
        yield
    finally:
        (folder / "freezer.state").write_text("THAWED")
        for hierarchy in detect().hierarchies:
            with contextlib.suppress(FileNotFoundError):
                Path(hierarchy.mountpoint, name).rmdir()


def test_create_that_comes_to_no_end_is_undone(
    program: Program, bundle: OCIBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "START_S", 0.5)
    monkeypatch.setattr(control, "check_thawed", lambda *_, **__: None)  # frozen afterwards
    name = program.id()
    with frozen_freezer(f"{name}-parent"):
        bundle.linux["cgroupsPath"] = f"/{name}-parent/{name}"
        request = create.Request(bundle=str(bundle.write()))
        with pytest.raises(OrlopError, match="did not run in time"):
            create.create(Folder(str(program.root), name), request)
    assert program.ok("list", "--quiet") == ""


@pytest.mark.parametrize("verb", ["create", "run"])
@pytest.mark.parametrize("below", [False, True])
def test_a_start_in_a_frozen_cgroup_is_refused_at_once(
    program: Program, bundle: OCIBundle, verb: str, below: bool
) -> None:
    name = program.id()
    with frozen_freezer(name):
        bundle.linux["cgroupsPath"] = f"/{name}/{name}" if below else f"/{name}"
        said = program.refused(verb, "--bundle", bundle.write(), name)
    assert "is frozen" in said
    assert program.ok("list", "--quiet") == ""


def test_a_start_below_a_frozen_cgroup_of_v2_is_refused_at_once(
    program: Program, bundle: OCIBundle
) -> None:
    unified = detect().unified
    if unified is None:
        pytest.skip("this host has no cgroup v2")
    name = program.id()
    folder = Path(unified.mountpoint, name)
    folder.mkdir()
    (folder / "cgroup.freeze").write_text("1")
    try:
        bundle.linux["cgroupsPath"] = f"/{name}/{name}"
        said = program.refused("run", "--bundle", bundle.write(), name)
    finally:
        for hierarchy in detect().hierarchies:
            Path(hierarchy.mountpoint, name).rmdir()
    assert f"/{name} is frozen" in said


def test_start_that_comes_to_no_end_ends_the_container(
    program: Program, bundle: OCIBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "START_S", 0.5)
    name = program.create(bundle)
    os.kill(program.pid(name), signal.SIGSTOP)
    with pytest.raises(OrlopError, match="did not run in time"):
        starting.start(Folder(str(program.root), name))
    assert program.state(name)["status"] == "stopped"


def test_start_waits_for_its_hooks(
    program: Program, bundle: OCIBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "START_S", 0.1)
    bundle.program("/bin/slow", "#!/bin/sh\nsleep 1\n")
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/slow"}]}
    bundle.process["args"] = ["sleep", "600"]
    name = program.create(bundle)
    starting.start(Folder(str(program.root), name))
    assert program.state(name)["status"] == "running"


def test_a_program_that_root_may_not_run_without_its_capabilities_is_refused_by_create(
    program: Program, bundle: OCIBundle
) -> None:
    file = bundle.program("/bin/own", "#!/bin/sh\n")
    os.chown(file, 7, 7)
    file.chmod(0o700)
    bundle.process["capabilities"] = {"permitted": ["CAP_DAC_OVERRIDE"]}
    bundle.process["args"] = ["/bin/own"]
    message = program.refused("create", "--bundle", bundle.write(), program.id())
    assert 'exec: "/bin/own": permission denied' in message
