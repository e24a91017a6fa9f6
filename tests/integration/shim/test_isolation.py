"""What a container can get hold of that is the shim's: nothing."""

import fcntl
import os
import signal
import subprocess
from pathlib import Path

import pytest

from .harness import FailedError, Shim, eventually

F_GET_SEALS = 1034
SEALED = 0x0F  # SEAL, SHRINK, GROW, WRITE


def test_interpreter_of_shim_and_unborn_containers_is_a_sealed_copy(shim: Shim) -> None:
    for pid in (shim.pid, shim.stdio_pid):
        path = f"/proc/{pid}/exe"
        assert os.readlink(path).startswith("/memfd:orlop-shim")
        with open(path, "rb") as file:
            assert fcntl.fcntl(file, F_GET_SEALS) & SEALED == SEALED
        with pytest.raises(OSError):  # noqa: PT011 - busy or not permitted, as the kernel likes
            open(path, "r+b").close()


def test_program_that_names_its_own_exe_as_interpreter_does_not_run(shim: Shim) -> None:
    evil = shim.root / "bin/evil"
    evil.write_text("#!/proc/self/exe\n")
    evil.chmod(0o755)
    with pytest.raises(FailedError) as caught:
        shim.start("evil", "/bin/evil")
    assert caught.value.kind in ("command_not_found", "command_not_executable")


def test_container_inherits_three_descriptors_and_no_signal_setting(shim: Shim) -> None:
    script = "for n in $(seq 0 99); do [ -e /proc/self/fd/$n ] && echo -n $n,; done"
    shim.run_to_end("fds", "sh", "-c", script)
    assert shim.output("fds") == "0,1,2,"
    shim.run_to_end("status", "cat", "/proc/self/status")
    status = dict(line.split(":", 1) for line in shim.output("status").splitlines())
    for field in ("SigBlk", "SigIgn", "CapInh"):
        assert int(status[field], 16) == 0, field


def test_nobody_but_root_may_speak_to_the_sockets(shim: Shim) -> None:
    for name in ("shim.sock", "stdio.sock"):
        assert (shim.run / name).stat().st_mode & 0o777 == 0o600
    assert shim.run.stat().st_mode & 0o777 == 0o700
    assert str(shim.run) not in Path("/proc/net/unix").read_text().replace(f" {shim.run}", "")


def test_container_that_stops_what_comes_in_stops_nobody_else(shim: Shim) -> None:
    evil = shim.start("evil", "sh", "-c", "while :; do kill -STOP -1; done 2>/dev/null")
    process = {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    streams = {"stdin": False, "stdin_once": True, "log": None}
    try:
        for number in range(20):
            order = {"op": "exec", "id": "evil", "exec_id": f"e{number}"}
            tty = {"terminal": number % 2 == 0}
            shim.client.post({**order, "process": process | tty, "io": streams | tty})
            assert shim.pid  # it answers
        assert [item["id"] for item in shim.request(op="list") if "exec_id" not in item] == ["evil"]
    finally:
        os.kill(evil["pid"], signal.SIGKILL)
    shim.wait_exit("evil")


def test_memory_of_shim_and_stdio_process_is_small_however_many_run(shim: Shim) -> None:
    idle = _pss_kib(shim.pid) + _pss_kib(shim.stdio_pid)
    assert idle < 40 << 10
    for number in range(20):
        shim.start(f"c{number}", "sleep", "100")
    assert _pss_kib(shim.pid) + _pss_kib(shim.stdio_pid) - idle < 20 << 10


def _pss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("\nPss:")[1].split()[0])


def test_log_survives_a_full_disk_and_says_what_was_lost(shim: Shim, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * (200 << 10))
        log = {"path": str(disk / "log"), "max_size": 0, "max_files": 1}
        script = (
            "seq 20000; echo > /tmp/done; while ! [ -e /tmp/go ]; do sleep 0.02; done; echo last"
        )
        shim.start("full", "sh", "-c", script, log=log)
        eventually((shim.root / "tmp/done").exists)  # a pipe holds less than that: some is lost
        ballast.unlink()
        (shim.root / "tmp/go").touch()
        assert shim.wait_exit("full")["status"] == 0
        text = (disk / "log").read_text()
    finally:
        subprocess.run(["umount", disk], check=True)
    assert "log entries lost" in text
    assert '"log":"last\\n"' in text
    assert all(line.startswith('{"log":') and line.endswith("}") for line in text.splitlines())
