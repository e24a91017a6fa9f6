"""A container fills the disk: containers still end and go, and the engine starts."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess
from tests.integration.faults.disks import OnADisk, engine_on

_DISKS = {
    "ext4": "truncate -s 48m {root}.img && mkfs.ext4 -q -m 0 {root}.img"
    " && mount -o loop {root}.img {root}",
    "tmpfs": "mount -t tmpfs -o size=32m none {root}",
}
#: Takes the whole disk, and then every block that somebody else sets free.
_GREEDY = "cat /dev/zero > /a; while :; do cat /dev/zero >> /b; usleep 20000; done"
#: Takes every inode.
_PROLIFIC = "i=0; while :; do if : >/$i; then i=$((i+1)); else usleep 20000; fi; done 2>/dev/null"
#: More than anybody sets free on a full disk meanwhile.
_MEGABYTE = "head -c 1048576 /dev/urandom > /megabyte"
_OBEDIENT = "trap 'exit 3' USR1; while :; do usleep 10000; done"


@pytest.fixture(params=sorted(_DISKS))
def full(
    request: pytest.FixtureRequest, tmp_path: Path, busybox_archive: Path
) -> Iterator[OnADisk]:
    """An engine with containers that run, and one of them, `greedy`, has filled the disk."""
    with engine_on(tmp_path, _DISKS[request.param]) as engine:
        engine.docker("load", "-i", str(busybox_archive))
        engine.docker("create", "--name", "made", "busybox:test", "true")
        engine.docker("commit", "made", "other:1")
        engine.docker("volume", "create", "full")
        engine.docker("network", "create", "net")
        for name in ("one", "two"):
            script = ("sh", "-c", _OBEDIENT)
            engine.docker("run", "-d", "--restart=always", "--name", name, "busybox:test", *script)
        engine.docker("exec", "one", "sh", "-c", _MEGABYTE)
        engine.docker("run", "-d", "--name", "obedient", "busybox:test", *script)
        engine.docker("run", "-d", "--name", "greedy", "busybox:test", "sh", "-c", _GREEDY)
        engine.await_full()
        yield engine


#: Writes 8 MiB to each file of /etc that the engine makes.
_SCRIBBLE = "for f in hostname hosts resolv.conf; do yes | head -c 8388608 >> /etc/$f; done"


def _state(engine: OnADisk, name: str) -> str:
    return engine.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)


def test_containers_of_a_full_disk_are_killed_stopped_and_removed(full: OnADisk) -> None:
    full.docker("kill", "one")
    assert _state(full, "one") == "exited 137"
    full.docker("stop", "-t", "1", "two")
    assert _state(full, "two") == "exited 137"
    full.docker("kill", "-s", "USR1", "obedient")
    full.await_out("exited 3", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "obedient")
    full.docker("rm", "two")
    full.docker("rm", "-f", "greedy")
    assert sorted(full.out("ps", "-a", "--format", "{{.Names}}").split()) == [
        "made",
        "obedient",
        "one",
    ]
    full.await_space()
    full.docker("run", "--rm", "busybox:test", "true")
    full.docker("start", "one")
    full.docker("rm", "-f", "one")


def test_prune_frees_a_full_disk(full: OnADisk) -> None:
    full.docker("kill", "greedy")
    full.docker("system", "prune", "-f")
    assert sorted(full.out("ps", "-a", "--format", "{{.Names}}").split()) == [
        "obedient",
        "one",
        "two",
    ]
    full.await_space()
    full.docker("run", "--rm", "busybox:test", "true")


def test_images_volumes_and_networks_of_a_full_disk_are_removed(full: OnADisk) -> None:
    full.docker("rmi", "other:1")
    full.docker("volume", "rm", "full")
    full.docker("network", "rm", "net")
    assert full.out("images", "-q", "other") == ""
    full.docker("rm", "-f", "greedy")
    full.await_space()
    full.await_index("busybox:test")


def test_what_needs_space_is_refused_on_a_full_disk_and_works_again(full: OnADisk) -> None:
    failed = full.docker("commit", "one", "big:1", check=False)
    assert failed.returncode == 1
    assert "space" in failed.stderr
    assert full.out("images", "-q", "big") == ""
    restarted = full.docker("restart", "-t", "0", "one", check=False)
    wanted = "running 0" if restarted.returncode == 0 else "exited"
    assert _state(full, "one").startswith(wanted)
    assert restarted.returncode == 0 or "space" in restarted.stderr
    full.docker("rm", "-f", "greedy")
    full.await_space()
    full.docker("restart", "-t", "0", "one", "two")
    assert _state(full, "one") == _state(full, "two") == "running 0"
    full.docker("run", "--rm", "busybox:test", "true")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_engine_starts_on_a_full_disk_and_knows_what_happened(
    full: OnADisk, how: signal.Signals
) -> None:
    full.docker("kill", "one")
    full.stop(how)
    full.start()
    assert _state(full, "one") == "exited 137"
    assert _state(full, "two") == "running 0"
    full.docker("kill", "two", "greedy")
    assert _state(full, "two") == "exited 137"
    full.docker("rm", "greedy", "two")
    full.await_space()
    full.stop(how)
    full.start()
    assert _state(full, "one") == "exited 137"
    assert full.out("ps", "-aq", "-f", "name=two") == ""
    full.docker("run", "--rm", "busybox:test", "true")


def test_an_engine_starts_on_a_disk_that_is_too_full_for_a_reserve_and_says_so(
    full: OnADisk,
) -> None:
    full.stop()
    full.inside("sh", "-c", f"rm {full.root}/metadata.db-*; sleep 0.2")
    full.await_full()
    full.start()
    assert "no space left" in full.out("info", "-f", "{{.Warnings}}")
    full.docker("kill", "one")
    assert _state(full, "one") == "exited 137"
    full.docker("stop", "-t", "0", "two")
    full.docker("rm", "two")
    failed = full.docker("create", "busybox:test", check=False)
    assert failed.returncode == 1
    assert "no space left" in failed.stderr
    full.docker("rm", "-f", "greedy")
    full.await_space()
    full.docker("run", "--rm", "busybox:test", "true")
    assert full.out("info", "-f", "{{.Warnings}}") == "[]"
    full.stop(signal.SIGKILL)
    full.start()
    assert _state(full, "one") == "exited 137"
    assert full.out("ps", "-aq", "-f", "name=two", "-f", "name=greedy") == ""


def test_a_disk_without_inodes_is_a_full_disk(tmp_path: Path, busybox_archive: Path) -> None:
    with engine_on(tmp_path, "mount -t tmpfs -o size=256m,nr_inodes=900 none {root}") as engine:
        engine.docker("load", "-i", str(busybox_archive))
        for name in ("one", "two"):
            engine.docker("run", "-d", "--name", name, "busybox:test", "sh", "-c", _OBEDIENT)
        engine.docker("run", "-d", "--name", "greedy", "busybox:test", "sh", "-c", _PROLIFIC)
        engine.await_full("iavail")
        engine.docker("kill", "one")
        for words in (
            ("create", "busybox:test"),
            ("commit", "one", "big:1"),
            ("volume", "create", "more"),
            ("load", "-i", str(busybox_archive)),
            ("cp", str(busybox_archive), "two:/"),
        ):
            failed = engine.docker(*words, check=False)
            assert (failed.returncode, "no space left" in failed.stderr.lower()) == (1, True), words
        engine.stop(signal.SIGKILL)
        engine.start()
        assert [_state(engine, name) for name in ("one", "two")] == ["exited 137", "running 0"]
        engine.docker("rm", "-f", "greedy", "two")
        engine.await_out("", "ps", "-q")
        engine.docker("system", "prune", "-f")
        engine.docker("run", "--rm", "busybox:test", "true")
        assert "Traceback" not in engine.log()


@pytest.mark.parametrize("network", ["bridge", "none"])
def test_no_container_can_write_to_the_run_folder(
    engine: EngineProcess, busybox_archive: Path, network: str
) -> None:
    engine.docker("load", "-i", str(busybox_archive))
    before = _taken(engine.run)
    engine.docker(
        "run", "--name", "wide", "--network", network, "busybox:test", "sh", "-c", _SCRIBBLE
    )
    assert _taken(engine.run) - before < 1 << 20
    engine.docker("start", "-a", "wide")  # what it wrote is still there, and no harm
    assert _taken(engine.run) - before < 1 << 20
    engine.docker("rm", "wide")


def _taken(folder: Path) -> int:
    """Return the bytes that the files in *folder* take."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
