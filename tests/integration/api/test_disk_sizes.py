"""Containers with a disk of limited size: --storage-opt size=, ORLOP_CONTAINER_DISK."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from tests.integration.engines import EngineProcess

_MIB = 1 << 20
_FILL = "dd if=/dev/zero of=/full bs=1M count=32 2>/dev/null; stat -c %s /full"
_FEW = 6 * _MIB  # of 16 MiB that the file system needs for itself, at most


class LimitingEngine(EngineProcess):
    """An engine whose containers have a disk of 16 MiB unless they say otherwise."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "ORLOP_CONTAINER_DISK": "16m"}


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path
) -> Iterator[EngineProcess]:
    process = LimitingEngine(tmp_path_factory.mktemp("e"))
    try:
        process.start()
        process.docker("load", "-i", str(busybox_archive))
        yield process
        assert devices(process) == []
    finally:
        process.close()


def devices(engine: EngineProcess) -> list[str]:
    """Return the files in the engine's root that are loop devices."""
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    return [text for path in found if (text := path.read_text()).startswith(str(engine.root))]


@pytest.mark.parametrize(
    "host", [{}, {"StorageOpt": {"size": "16m"}}, {"UsernsMode": "100000:65536"}], ids=str
)
def test_container_cannot_write_more_than_its_disk(
    engine: EngineProcess, host: dict[str, Any]
) -> None:
    body = {"Image": "busybox:test", "Cmd": ["sh", "-c", _FILL], "HostConfig": host}
    with Client(settings(host=engine.url)) as client:
        client.containers.create(body, name="sized")
    try:
        size = int(engine.out("start", "-a", "sized"))
        assert 16 * _MIB - _FEW < size < 16 * _MIB
        shown = json.loads(engine.out("inspect", "-f", "{{json .HostConfig}}", "sized"))
        assert shown["StorageOpt"] == {"size": str(16 * _MIB)}
        assert engine.out("diff", "sized") == "A /full"
    finally:
        engine.docker("rm", "sized")
    assert devices(engine) == []


def test_container_without_a_limit_writes_more(engine: EngineProcess) -> None:
    words = ("run", "--rm", "--storage-opt", "size=-1", "busybox:test", "sh", "-c", _FILL)
    assert int(engine.out(*words)) == 32 * _MIB


def test_what_a_sized_disk_has_is_copied_committed_exported_and_kept(
    engine: EngineProcess, tmp_path: Path
) -> None:
    script = "echo one >>/kept; sleep 1000"
    engine.docker("run", "-d", "--name", "long", "busybox:test", "sh", "-c", script)
    (tmp_path / "put").write_bytes(b"put")
    (tmp_path / "large").write_bytes(bytes(20 * _MIB))
    engine.docker("cp", str(tmp_path / "put"), "long:/put")  # while it runs
    full = engine.docker("cp", str(tmp_path / "large"), "long:/large", check=False)
    assert (full.returncode, "space" in full.stderr.lower()) == (1, True)
    assert "/put" in engine.out("diff", "long")
    engine.stop(signal.SIGKILL)
    engine.start()
    engine.docker("restart", "-t", "0", "long")
    assert engine.out("exec", "long", "cat", "/kept", "/put") == "one\none\nput"
    engine.docker("stop", "-t", "0", "long")
    assert devices(engine) == []
    engine.docker("cp", "long:/kept", str(tmp_path / "kept"))
    engine.docker("cp", str(tmp_path / "put"), "long:/later")
    assert (tmp_path / "kept").read_text() == "one\none\n"
    engine.docker("commit", "long", "sized:1")
    assert engine.out("run", "--rm", "sized:1", "cat", "/put", "/later") == "putput"
    exported = tmp_path / "exported.tar"
    engine.docker("export", "-o", str(exported), "long")
    assert b"later" in exported.read_bytes()
    engine.docker("rm", "long")
    engine.docker("rmi", "sized:1")
    assert devices(engine) == []


def test_files_that_do_not_count_cannot_be_written(engine: EngineProcess) -> None:
    script = "for f in hosts hostname resolv.conf; do echo x >>/etc/$f && echo $f; done; true"
    done = engine.docker("run", "--rm", "busybox:test", "sh", "-c", script)
    assert done.stdout == ""
    assert done.stderr.count("Read-only file system") == 3


@pytest.mark.parametrize("option", ["size=1k", "size=much", "inodes=7"])
def test_disk_that_cannot_be_is_refused(engine: EngineProcess, option: str) -> None:
    before = engine.out("ps", "-aq")
    failed = engine.docker("create", "--storage-opt", option, "busybox:test", check=False)
    assert failed.returncode == 1
    assert "size" in failed.stderr
    assert engine.out("ps", "-aq") == before


def test_all_that_the_image_host_lets_write_is_on_one_disk(engine: EngineProcess) -> None:
    fill = "for d in / /usr/local/; do head -c 10M /dev/zero >$d/full; done 2>&1; stat -c %s"
    with orlop.Sandbox(engine=engine.url, name="hosted", disk="16m") as box:
        done = box.run(["sh", "-c", f"{fill} /full /usr/local/full"])
        root, usr = map(int, done.stdout.split()[-2:])
        assert b"No space left" in done.stdout
        assert root == 10 * _MIB
        assert usr < 16 * _MIB - root
    assert devices(engine) == []


def test_a_large_disk_takes_little_at_first(engine: EngineProcess) -> None:
    engine.docker("create", "--name", "large", "--storage-opt", "size=10g", "busybox:test", "true")
    taken = sum(path.stat().st_blocks * 512 for path in engine.root.rglob("disk.ext4"))
    engine.docker("rm", "large")
    assert taken < 48 * _MIB  # with those of containers that were removed just now


def test_forks_of_a_sandbox_have_disks_of_its_size(engine: EngineProcess) -> None:
    command = ["sh", "-c", "echo up >/up; while :; do sleep 0.05; done"]
    with orlop.Sandbox(engine=engine.url, image="busybox:test", disk="12m", command=command) as box:
        box.files.write("/mine", b"x")
        forks = box.fork(2)
        try:
            assert [fork.files.read("/mine") for fork in forks] == [b"x", b"x"]
            size = int(forks[0].run(["sh", "-c", _FILL]).stdout)
            assert 12 * _MIB - _FEW < size < 12 * _MIB
            assert int(forks[1].run(["sh", "-c", _FILL]).stdout) == size
        finally:
            for fork in forks:
                fork.close()
    assert devices(engine) == []


def test_sandbox_with_a_name_has_the_disk_that_it_asks_for(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, image="busybox:test", name="small", disk="12m") as box:
        size = int(box.run(["sh", "-c", _FILL]).stdout)
        assert 12 * _MIB - _FEW < size < 12 * _MIB
