"""Sandboxes in a user namespace: whom their root is, and what of them works."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from orlop.engine.spec.idranges import mappings
from orlop.errors import InvalidArgumentError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import Face

FIRST = 2017460224
RANGE = f"{FIRST}:65536"


def is_given() -> bool:
    try:
        mappings("auto")
    except InvalidArgumentError:
        return False
    return True


def _pid(engine: EngineProcess, box: Face) -> int:
    with Client(settings(host=engine.url)) as client:
        pid: int = client.containers.inspect(box.id)["State"]["Pid"]
    return pid


def test_root_is_an_unprivileged_user_of_the_host(
    face: Callable[..., Face], engine: EngineProcess
) -> None:
    boxes = {first: face(userns=f"{first}:65536") for first in (FIRST, FIRST + 65536)}
    for first, box in boxes.items():
        assert box.run(["id", "-u"]).stdout == b"0\n"
        process = Path(f"/proc/{_pid(engine, box)}")
        assert (process / "uid_map").read_text().split() == ["0", str(first), "65536"]
        assert (process / "gid_map").read_text().split() == ["0", str(first), "65536"]
        assert process.stat().st_uid == first


@pytest.mark.skipif(is_given(), reason="this machine's administrator has given a range")
def test_automatic_ranges_differ_and_are_given_back(engine: EngineProcess) -> None:
    def first(box: orlop.Sandbox) -> int:
        inside, outside, size = map(int, box.run(["cat", "/proc/self/uid_map"]).stdout.split())
        assert (inside, size) == (0, 65536)
        return outside

    options = orlop.Sandbox(engine=engine.url, userns="auto").given()
    with orlop.Batch(**options, count=4) as boxes:
        (fork,) = boxes[0].fork()
        firsts = [first(box) for box in (*boxes, fork)]
        assert len({*firsts}) == 5
        assert min(firsts) == FIRST
    with orlop.Sandbox(**options) as box:
        assert first(box) == FIRST


def test_what_is_written_belongs_to_the_namespaces_users(
    face: Callable[..., Face], engine: EngineProcess
) -> None:
    box = face(userns=RANGE)
    box.files("write", "/root/from-outside", b"a")
    box.files("write", "/tmp/of-a-user", b"b", user="12:34")
    assert box.run(["sh", "-ec", "echo c >/root/inside"]).exit_code == 0
    names = ["root/from-outside", "root/inside", "tmp/of-a-user"]
    told = box.run(["sh", "-c", f"cd /; stat -c %u:%g {' '.join(names)}"])
    assert told.stdout.split() == [b"0:0", b"0:0", b"12:34"]
    root = Path(f"/proc/{_pid(engine, box)}/root")
    owners = [(root / name).stat().st_uid for name in names]
    assert owners == [FIRST, FIRST, FIRST + 12]
    assert [box.files("read", f"/{name}") for name in names] == [b"a", b"c\n", b"b"]


def test_a_tar_of_its_files_has_the_namespaces_users(engine: EngineProcess) -> None:
    with (
        orlop.Sandbox(engine=engine.url, userns=RANGE) as box,
        Client(settings(host=engine.url)) as client,
    ):
        box.files.write("/tmp/x", b"x", user="12:34")
        data = b"".join(client.containers.archive_get(box.id, "/tmp/x"))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            (member,) = tar.getmembers()
        assert (member.uid, member.gid) == (12, 34)


def test_a_fork_has_the_files_and_the_namespace(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, userns=RANGE) as box:
        box.files.write("/root/x", b"x")
        (fork,) = box.fork()
        assert fork.files.read("/root/x") == b"x"
        told = fork.run(["sh", "-c", "cat /proc/self/uid_map; stat -c %u /root/x"])
        assert told.stdout.split() == [b"0", str(FIRST).encode(), b"65536", b"0"]


def test_a_user_namespace_that_cannot_be_is_refused_by_name(engine: EngineProcess) -> None:
    for wrong in ("nobody-of-that-name", "1:x", f"0:{1 << 16}"):
        with (
            pytest.raises(InvalidArgumentError, match=wrong),
            orlop.Sandbox(engine=engine.url, userns=wrong),
        ):
            pass
    with pytest.raises(InvalidArgumentError, match="userns"):
        orlop.Sandbox(userns=7)  # type: ignore[arg-type]
