"""cp, diff and export: what they bring, and what they cannot be led to touch."""

import asyncio
import contextlib
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from orlop.engine.containers import bundle
from orlop.engine.engine import Engine
from orlop.engine.requests import CommitRequest, PutOptions
from orlop.errors import (
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    PermissionDeniedError,
    WrongStateError,
)
from orlop.model.container import MountPoint
from orlop.model.reference import parse_reference
from tests.integration.engine.harness import output, run, shell, until, with_engine


async def _tar_of(pieces: AsyncIterator[bytes]) -> dict[str, bytes | None]:
    data = b"".join([piece async for piece in pieces])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {}
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            members[member.name] = file.read() if file else None
        return members


async def _stream(*files: tuple[str, bytes]) -> AsyncIterator[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    yield out.getvalue()


@pytest.mark.parametrize("running", [True, False])
def test_files_go_in_and_out(tmp_path: Path, running: bool) -> None:
    async def work(engine: Engine) -> None:
        containers = engine.containers
        created = await containers.create(
            shell("mkdir -p /srv/a/b; echo x >/srv/a/b/c; exec sleep 60")
        )
        await containers.start(created.id)
        await asyncio.sleep(0.3)
        if not running:
            await containers.stop(created.id, timeout_s=0)
        stat, pieces = await containers.archive_get(created.id, "/srv/a")
        assert stat.name == "a"
        assert await _tar_of(pieces) == {"a": None, "a/b": None, "a/b/c": b"x\n"}
        _, pieces = await containers.archive_get(created.id, "/srv/a/b/c")
        assert await _tar_of(pieces) == {"c": b"x\n"}
        await containers.archive_put(created.id, "/srv/a", _stream(("new", b"hello")), PutOptions())
        _, pieces = await containers.archive_get(created.id, "/srv/a/new")
        assert await _tar_of(pieces) == {"new": b"hello"}
        with pytest.raises(NotFoundError, match="Could not find the file /nowhere"):
            await containers.archive_stat(created.id, "/nowhere")
        with pytest.raises(InvalidArgumentError, match="not a directory"):
            await containers.archive_put(
                created.id, "/srv/a/new", _stream(("x", b"")), PutOptions()
            )

    with_engine(tmp_path, work)


@pytest.mark.parametrize("running", [True, False])
def test_links_in_a_container_lead_to_its_own_files(tmp_path: Path, running: bool) -> None:
    """CVE-2018-15664 and its like: a link that names the host's folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("host")

    async def work(engine: Engine) -> None:
        containers = engine.containers
        links = f"ln -s {outside} /srv/out; ln -s ../../../../../..{outside} /srv/up; exec sleep 60"
        created = await containers.create(shell(links))
        await containers.start(created.id)
        await asyncio.sleep(0.3)
        if not running:
            await containers.stop(created.id, timeout_s=0)
        for link in ("/srv/out", "/srv/up"):
            with pytest.raises(NotFoundError):
                await containers.archive_get(created.id, f"{link}/secret")
            with pytest.raises(NotFoundError):
                await containers.archive_put(
                    created.id, f"{link}/.", _stream(("planted", b"x")), PutOptions()
                )
        hostile = _stream(("../../../../../../../../.." + str(outside) + "/planted", b"x"))
        await containers.archive_put(created.id, "/srv", hostile, PutOptions())
        assert os.listdir(outside) == ["secret"]

    with_engine(tmp_path, work)


def test_a_pid_that_is_another_processs_now_shows_none_of_its_files(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exec sleep 60"))
        await engine.containers.start(created.id)
        container = engine.containers.get(created.id)
        records = engine._context.records
        records.note(replace(container, pid=os.getpid()))
        with pytest.raises(WrongStateError, match="not running"):
            await engine.containers.archive_stat(created.id, "/etc")
        planted = _stream(("planted", b"x"))
        with pytest.raises(WrongStateError, match="not running"):
            await engine.containers.archive_put(created.id, "/srv", planted, PutOptions())
        records.note(container)
        assert (await engine.containers.archive_stat(created.id, "/etc")).name == "etc"

    with_engine(tmp_path, work)


def test_diff_tells_what_changed_and_nothing_else(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ref = await run(engine, shell("echo x >/srv/new; rm /etc/shells"))
        changes = {(change.kind, change.path) for change in await engine.containers.changes(ref)}
        assert changes == {("C", "/srv"), ("A", "/srv/new"), ("C", "/etc"), ("D", "/etc/shells")}

    with_engine(tmp_path, work)


def test_a_folder_of_a_volume_is_mounted_and_no_link_leads_out_of_it(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        whole = MountPoint(type="volume", target="/v", source="data")
        await run(engine, shell("mkdir /v/sub; echo inside >/v/sub/file", mounts=(whole,)))
        part = MountPoint(type="volume", target="/p", source="data", subpath="sub")
        ref = await run(engine, shell("cat /p/file", mounts=(part,)))
        assert await output(engine, ref) == "inside\n"
        created = await engine.containers.create(shell("ls /p", mounts=(part,)))
        await run(engine, shell("mv /v/sub /v/old; ln -s /etc /v/sub", mounts=(whole,)))
        with pytest.raises(OrlopError, match="cross-device"):
            await engine.containers.start(created.id)
        with pytest.raises(InvalidArgumentError, match="leads out"):
            await engine.containers.create(shell("ls /p", mounts=(part,)))
        await run(engine, shell("rm /v/sub; ln -s old /v/sub", mounts=(whole,)))
        ref = await run(engine, shell("cat /p/file", mounts=(part,)))
        assert await output(engine, ref) == "inside\n"

    with_engine(tmp_path, work)


def test_a_user_namespace_gives_root_no_rights_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = [{"containerID": 0, "hostID": 300000, "size": 65536}]
    monkeypatch.setattr(bundle, "mappings", lambda _: (ranges, ranges))
    tmp_path.chmod(0o755)

    async def work(engine: Engine) -> None:
        text = "cat /proc/self/uid_map; id -u; touch /srv/x /v/x; stat -c %u /srv/x /etc/hosts /v"
        volume = MountPoint(type="volume", target="/v", source="data")
        ref = await run(engine, shell(text, userns="auto", mounts=(volume,)))
        assert (await output(engine, ref)).split() == ["0", "300000", "65536", *"0000"]

    with_engine(tmp_path, work)


@pytest.mark.parametrize("running", [True, False])
def test_export_of_a_user_namespace_has_its_own_users(
    tmp_path: Path, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = [{"containerID": 0, "hostID": 300000, "size": 65536}]
    monkeypatch.setattr(bundle, "mappings", lambda _: (ranges, ranges))
    tmp_path.chmod(0o755)

    async def work(engine: Engine) -> None:
        text = "touch /srv/x; chown 5:6 /srv/x; touch /srv/ready; sleep 60"
        created = await engine.containers.create(shell(text, userns="auto"))
        await engine.containers.start(created.id)
        pid = engine.containers.get(created.id).pid
        await until(Path(f"/proc/{pid}/root/srv/ready").exists)
        if not running:
            await engine.containers.stop(created.id, timeout_s=0)
        pieces = await engine.containers.export(created.id)
        data = b"".join([piece async for piece in pieces])
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            owned = tar.getmember("srv/x")
            assert (owned.uid, owned.gid) == (5, 6)

    with_engine(tmp_path, work)


def test_the_image_host_cannot_be_committed_over(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ref = await run(engine, shell("echo x >/srv/x"))
        with pytest.raises(WrongStateError, match="host"):
            await engine.images.commit(ref, parse_reference("made"), CommitRequest())

    with_engine(tmp_path, work)


def test_a_path_in_a_volume_of_a_stopped_container_is_the_volumes(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        volume = MountPoint(type="volume", target="/v", source="data")
        ref = await run(engine, shell("echo x >/v/old", mounts=(volume,)))
        stat, pieces = await engine.containers.archive_get(ref, "/v")
        assert stat.name == "v"
        assert await _tar_of(pieces) == {"v": None, "v/old": b"x\n"}
        await engine.containers.archive_put(ref, "/v", _stream(("new", b"y")), PutOptions())
        assert (tmp_path / "root/volumes/data/_data/new").read_bytes() == b"y"

    with_engine(tmp_path, work)


def test_a_read_only_container_takes_no_files(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ref = await run(engine, shell("true", read_only=True))
        with pytest.raises(PermissionDeniedError, match="marked read-only"):
            await engine.containers.archive_put(ref, "/srv", _stream(("x", b"")), PutOptions())

    with_engine(tmp_path, work)


def test_export_of_a_running_container_reads_the_mount_that_the_container_has(
    tmp_path: Path,
) -> None:
    """The kernel calls what a second mount of an upper folder shows undefined, and logs it."""

    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("echo x > /own; sleep 60"))
        await engine.containers.start(created.id)
        own = Path(f"/proc/{engine.containers.get(created.id).pid}/root")
        await until((own / "own").exists)
        pieces = await engine.containers.export(created.id)
        async with contextlib.aclosing(pieces):  # type: ignore[type-var]
            await anext(pieces)
            assert own.stat().st_dev in _devices()
        assert own.stat().st_dev not in _devices()

    with_engine(tmp_path, work)


def _devices() -> set[int]:
    """Return the file systems of which this process has descriptors."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.stat(f"/proc/self/fd/{number}").st_dev)
    return found
