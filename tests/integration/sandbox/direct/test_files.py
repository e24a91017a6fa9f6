"""What sandboxes write when they are started the quick way: it is in memory, and like any other."""

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import orlop
from orlop.errors import ExhaustedError, UnsupportedError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until

#: Everything that an overlay has a mark for, and everything that a copy could lose.
CHANGES = r"""
cd /srv 2>/dev/null || mkdir -m 2750 /srv && cd /srv
echo text >file; ln file name; ln -s /etc/shadow link; ln -s ../../../../../../etc loop
mkfifo fifo; mknod device c 1 3; mknod -m 600 block b 7 0
mkdir -m 1777 sticky; echo x >sticky/x; chown 12:34 sticky sticky/x; chmod 4711 sticky/x
dd if=/dev/zero of=holes bs=1024 seek=8192 count=1 2>/dev/null
touch -d '2001-02-03 04:05:06' file sticky
rm -r /etc/removed; rm -r /etc/replaced; mkdir /etc/replaced; echo new >/etc/replaced/new
chmod 711 /etc/kept; rm /etc/kept/gone; echo more >>/etc/kept/changed
mv /etc/renamed /etc/moved
"""
BEFORE = r"""
mkdir -p /etc/removed /etc/replaced /etc/kept /etc/renamed /tmp/t
cd /etc
for f in removed/a replaced/old kept/gone kept/changed kept/same renamed/r; do echo $f >$f; done
"""
LOOK = r"""
cd /; find %s ! -name hosts ! -name hostname ! -name resolv.conf | sort | while read f
do
    if [ -d "$f" ] && [ ! -L "$f" ]; then stat -c '%%n %%F %%a %%u %%g' "$f"
    else stat -c '%%n %%F %%a %%u %%g %%h %%s %%t,%%T' "$f"; fi
    readlink "$f" || true
done
stat -c %%Y srv/file srv/sticky; cat srv/name etc/replaced/*; [ ! -e etc/kept ] || cat etc/kept/*
"""


def shell(box: orlop.Sandbox, script: str, **how: Any) -> str:
    result = box.run(["sh", "-ec", script], **how)
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode()


@pytest.fixture(scope="module")
def image(engine: EngineProcess, busybox_archive: Path) -> str:
    """A busybox with a layer above that there is something to remove from."""
    engine.docker("load", "-i", str(busybox_archive))
    with orlop.Sandbox(engine=engine.url, image="busybox:test") as box:
        shell(box, BEFORE)
        box.snapshot("before:1")
    return "before:1"


@pytest.fixture
def box(engine: EngineProcess, image: str) -> Iterator[orlop.Sandbox]:
    with orlop.Sandbox(engine=engine.url, image=image) as box:
        assert is_quick(engine, box)
        yield box


def is_quick(engine: EngineProcess, box: orlop.Sandbox) -> bool:
    """Whether it was started by a recipe: then it has no folder."""
    return not (engine.root / "containers" / box.id).exists()


def exported(engine: EngineProcess, container: str) -> list[tuple[object, ...]]:
    done = subprocess.run(
        ["docker", "export", container], env=engine.environment(), capture_output=True, check=True
    )
    with tarfile.open(fileobj=BytesIO(done.stdout)) as tar:
        return sorted(
            (m.name, m.type, m.mode, m.uid, m.gid, m.size, m.linkname, m.devmajor)
            for m in tar.getmembers()
            if m.name not in ("etc/hosts", "etc/hostname", "etc/resolv.conf")
        )


def test_changes_export_and_size_are_those_of_a_container(
    engine: EngineProcess, box: orlop.Sandbox, image: str
) -> None:
    shell(box, CHANGES)
    engine.docker("run", "-d", "--name", "usual", image, "sleep", "600")
    try:
        engine.docker("exec", "usual", "sh", "-ec", CHANGES)
        assert engine.out("diff", box.id) == engine.out("diff", "usual")
        assert "D /etc/removed\n" in engine.out("diff", box.id)
        assert exported(engine, box.id) == exported(engine, "usual")
    finally:
        engine.docker("rm", "-f", "usual")
    before = _size(engine, box)
    shell(box, "dd if=/dev/zero of=/srv/more bs=1024 count=4096; ln /srv/more /srv/again")
    assert _size(engine, box) == before + (4 << 20)


def _size(engine: EngineProcess, box: orlop.Sandbox) -> int:
    found = json.loads(engine.out("inspect", "--size", box.id))[0]
    return int(found["SizeRw"])


def test_machines_own_folders_that_a_sandbox_changes_are_found(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url) as box:
        assert is_quick(engine, box)
        shell(box, "echo 1 >/usr/local/lib/made; rm -r /usr/share/doc; echo 2 >/etc/made")
        found = engine.out("diff", box.id).splitlines()
        assert {"A /usr/local/lib/made", "D /usr/share/doc", "A /etc/made"} <= {*found}
        (fork,) = box.fork()
        assert shell(fork, "cat /usr/local/lib/made /etc/made; ls -d /usr/share/doc || true") == (
            "1\n2\n"
        )


def test_image_of_a_running_sandbox_is_of_one_moment(
    engine: EngineProcess, box: orlop.Sandbox
) -> None:
    shell(box, CHANGES)
    write = "i=$((i+1)); echo $i >t; mv t a; echo $i >t; mv t b"
    with box.exec(["sh", "-c", f"cd /srv; i=0; while :; do {write}; done"]):
        wait_until(lambda: shell(box, "ls /srv").count("\nb\n") == 1, "nothing is written")
        box.snapshot("moment:1")
        assert shell(box, "cat /srv/a")  # it goes on
        seen = shell(box, LOOK % "etc")
    with orlop.Sandbox(engine=engine.url, image="moment:1") as other:
        first, second = map(int, shell(other, "cat /srv/a /srv/b").split())
        assert first - second in (0, 1)
        assert shell(other, LOOK % "etc") == seen
        assert shell(other, "stat -c '%h %F' /srv/name /srv/fifo /srv/device") == (
            "2 regular file\n1 fifo\n1 character special file\n"
        )


def test_forks_lose_nothing_and_follow_no_link(engine: EngineProcess, box: orlop.Sandbox) -> None:
    shell(box, CHANGES)
    seen = shell(box, LOOK % "srv etc")
    forks = box.fork(3)
    assert all(is_quick(engine, fork) for fork in forks)
    for fork in forks:
        assert shell(fork, LOOK % "srv etc") == seen
    shell(forks[0], "echo mine >>/srv/file; rm -r /etc/kept; echo x >/etc/removed")
    assert shell(box, LOOK % "srv etc") == shell(forks[1], LOOK % "srv etc") == seen
    assert int(shell(forks[1], "stat -c %b /srv/holes")) < 64
    grandchildren = forks[0].fork(2)
    for one in grandchildren:
        assert shell(one, LOOK % "srv etc") == shell(forks[0], LOOK % "srv etc") != seen
    with pytest.raises(UnsupportedError, match="no process of its own"):
        box.fork(processes=True)


def test_attributes_of_files_are_copied(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url) as box:
        make = "import os; open('/srv/f','w'); os.setxattr('/srv/f','user.a',b'1\\0')"
        assert box.run(["python3", "-c", make]).exit_code == 0
        (fork,) = box.fork()
        look = "import os; print(os.getxattr('/srv/f', 'user.a'))"
        assert fork.run(["python3", "-c", look]).stdout == b"b'1\\x00'\n"


def test_files_that_change_under_our_eyes_lead_nowhere(
    engine: EngineProcess, box: orlop.Sandbox
) -> None:
    fill = "mkdir x; cd x; mkdir $(seq 200); for i in *; do echo >$i/f; done; cd ..; rm -r x"
    swap = "for to in / /etc /proc/self/root x; do ln -s $to x; rm x; done"
    allowed = re.compile(r"C /|A /srv|A /srv/x|A /srv/x/\d+(/f)?")
    with box.exec(["sh", "-c", f"mkdir /srv; cd /srv; while :; do {fill}; {swap}; done"]):
        for _ in range(30):
            found = engine.out("diff", box.id).splitlines()
            assert [line for line in found if not allowed.fullmatch(line)] == []
        assert _size(engine, box) <= 200 * 4096
        for fork in box.fork(2):
            found = engine.out("diff", fork.id).splitlines()
            assert [line for line in found if not allowed.fullmatch(line)] == []


def test_copies_that_are_too_large_are_refused(engine: EngineProcess, box: orlop.Sandbox) -> None:
    shell(box, "mkdir /srv; cd /srv; for i in $(seq 300); do echo >$i; done")
    with pytest.raises(ExhaustedError, match=r"copies of a sandbox's files.*\d+ files"):
        box.fork(1000)
    wait_until(lambda: ids(engine) == {box.id}, "copies that were refused are there")
    assert shell(box, "ls /srv | wc -l") == "300\n"


def test_disk_limit_is_a_forks_own(engine: EngineProcess, image: str) -> None:
    write = "dd if=/dev/zero of=/srv bs=1024 count=%d"
    with orlop.Sandbox(engine=engine.url, image=image, disk="4m") as box:
        shell(box, write % 2048)
        (fork,) = box.fork()
        shell(fork, write.replace("srv", "more") % 1024)
        assert fork.run(["sh", "-c", write.replace("srv", "most") % 2048]).exit_code != 0
        shell(box, write.replace("srv", "most") % 1024)
