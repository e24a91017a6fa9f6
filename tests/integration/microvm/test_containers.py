"""`--runtime vm`: the same commands, and a kernel of the container's own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.microvm.machine import Kind
from tests.integration.engines import EngineProcess
from tests.integration.microvm.conftest import ROOT

VM = ("--runtime", "vm", "--network", "none")
IMAGE = "busybox:test"


@pytest.fixture(scope="module")
def engine(
    kind: Kind, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineProcess]:
    """An engine on whose host `orlop vm setup` has run."""
    assert kind.kernel.startswith(f"{ROOT}/microvm/")
    engine = EngineProcess(tmp_path_factory.mktemp("vm"))
    engine.root.mkdir(0o700)
    (engine.root / "microvm").symlink_to(ROOT / "microvm")
    try:
        engine.start()
        engine.docker("load", "-i", str(busybox_archive))
        yield engine
    finally:
        engine.close()


def orlop(
    engine: EngineProcess, *words: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orlop", *words],
        env=engine.environment(),
        input=stdin,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_run_gives_output_errors_and_exit_code_from_another_kernel(engine: EngineProcess) -> None:
    script = "uname -r; cat; echo oh >&2; exit 7"
    done = orlop(engine, "run", "--rm", "-i", *VM, IMAGE, "sh", "-c", script, stdin="in\n")
    release, echoed = done.stdout.splitlines()
    assert release != os.uname().release
    assert (echoed, done.stderr, done.returncode) == ("in", "oh\n", 7)


def test_a_missing_program_ends_with_127_and_a_reason(engine: EngineProcess) -> None:
    done = orlop(engine, "run", "--rm", *VM, IMAGE, "no-such")
    assert done.returncode == 127
    assert 'exec: "no-such": executable file not found in $PATH' in done.stderr


def test_a_container_in_a_machine_lives_as_every_other(engine: EngineProcess) -> None:
    script = "trap 'echo bye; exit 9' TERM; echo ready; while true; do sleep 0.1; done"
    assert orlop(engine, "run", "-d", "--name", "life", *VM, IMAGE, "sh", "-c", script).stdout
    try:
        await_log(engine, "life", "ready\n")
        assert "life" in orlop(engine, "ps").stdout
        ran = orlop(engine, "exec", "-i", "life", "sh", "-c", "cat; ps; exit 5", stdin="x\n")
        assert ran.returncode == 5
        assert ran.stdout.startswith("x\nPID")
        assert "trap" in ran.stdout, "the command is not in the container's pid namespace"
        assert orlop(engine, "stop", "life").returncode == 0
        assert orlop(engine, "logs", "life").stdout == "ready\nbye\n"
        shown = "{{.State.ExitCode}} {{.HostConfig.Runtime}}"
        assert engine.out("inspect", "life", "--format", shown) == "9 vm"
    finally:
        assert orlop(engine, "rm", "-f", "life").returncode == 0


def test_kill_ends_the_machine(engine: EngineProcess) -> None:
    orlop(engine, "run", "-d", "--name", "loop", *VM, IMAGE, "sh", "-c", "echo up; sleep 1000")
    try:
        await_log(engine, "loop", "up\n")
        jailed = int(engine.out("inspect", "loop", "--format", "{{.State.Pid}}"))
        status = Path(f"/proc/{jailed}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "\nUid:\t0" not in status
        qemu = Path(f"/proc/{jailed}/task/{jailed}/children").read_text().split()
        assert qemu
        assert orlop(engine, "kill", "loop").returncode == 0
        assert engine.out("wait", "loop") == "137"
        assert not any(Path(f"/proc/{pid}").exists() for pid in qemu)
    finally:
        orlop(engine, "rm", "-f", "loop")


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--privileged",), "--privileged"),
        (("-v", "/tmp:/host"), "volumes and bind mounts"),
        (("--pid", "host"), "--pid"),
        (("--network", "default"), "networks"),
    ],
)
def test_what_a_machine_does_not_have_is_refused(
    engine: EngineProcess, option: tuple[str, ...], named: str
) -> None:
    options = option if "--network" in option else ("--network", "none", *option)
    done = orlop(engine, "run", "--rm", "--runtime", "vm", *options, IMAGE, "true")
    assert done.returncode == 125
    assert f"the runtime vm does not have {named}" in done.stderr


def await_log(engine: EngineProcess, name: str, text: str) -> None:
    deadline = time.monotonic() + 60
    while orlop(engine, "logs", name).stdout != text:
        assert time.monotonic() < deadline, engine.log()[-2000:]
        time.sleep(0.05)
