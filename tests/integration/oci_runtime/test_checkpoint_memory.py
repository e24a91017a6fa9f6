"""Checkpoints of memory apart from the rest: before, and after."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.oci_runtime.images import Images, ended
from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for

#: Memory of which every page is asked for after the restore.
PREPARE = "pages = [bytes([n]) * 4096 for n in range(256)]"
CHECKED = "number if pages[number % 256] == bytes([number % 256]) * 4096 else 'broken'"


@pytest.fixture
def images(program: Program, bundle: OCIBundle) -> Images:
    return Images(program, bundle)


@pytest.fixture
def large_pipes() -> Iterator[None]:
    """Pipes as large as CRIU wants them, which else takes CAP_SYS_RESOURCE."""
    limit = Path("/proc/sys/fs/pipe-max-size")
    before = limit.read_text()
    limit.write_text(str(max(int(before), 16 << 20)))
    yield
    limit.write_text(before)


def criu_has(feature: str) -> bool:
    done = subprocess.run(["criu", "check", "--feature", feature], capture_output=True, check=False)
    return done.returncode == 0


def test_memory_is_dumped_ahead_where_the_kernel_tracks_it(
    program: Program, images: Images
) -> None:
    name = images.counting_over(PREPARE, CHECKED)
    ahead = program.folder / "ahead"
    words: list[str | Path] = ["checkpoint", "--pre-dump", "--image-path", ahead, name]
    if not criu_has("mem_dirty_track"):
        assert "missing features: mem_track" in program.refused(*words)
        images.go_on()
        return
    program.ok(*words)
    images.go_on()
    images.checkpoint(name, "--parent-path", "../ahead")
    assert os.readlink(images.path / "parent") == "../ahead"
    images.restore(name)
    images.go_on()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_memory_is_sent_to_a_page_server(program: Program, images: Images) -> None:
    name = images.counting_over(PREPARE, CHECKED)
    images.path.mkdir()
    port = str(free_port())
    ready, tell = os.pipe()
    command = ["criu", "page-server", "--port", port, "--images-dir", str(images.path)]
    with ended(subprocess.Popen([*command, "--status-fd", str(tell)], pass_fds=[tell])) as server:
        os.close(tell)
        assert os.read(ready, 1) == b"\0"
        os.close(ready)
        images.checkpoint(name, "--page-server", f"127.0.0.1:{port}")
        assert server.wait(timeout=10) == 0
    images.restore(name)
    images.go_on()
    wait_for(lambda: len(images.counted()) > 256)


@pytest.mark.usefixtures("large_pipes")
def test_memory_comes_when_it_is_asked_for(program: Program, images: Images) -> None:
    name = images.counting_over(PREPARE, CHECKED)
    port = free_port()
    ready, tell = os.pipe()
    where = ("--image-path", images.path, "--lazy-pages")
    serve = ("--page-server", f"127.0.0.1:{port}", "--status-fd", str(tell))
    command: list[str | Path] = [program.script, "--root", program.root, "checkpoint"]
    command += [*where, *serve, name]
    with ended(subprocess.Popen(command, pass_fds=[tell])) as dumping:
        os.close(tell)
        assert os.read(ready, 1) == b"\0"
        os.close(ready)
        work = program.folder / "work"
        work.mkdir()
        source = ("--page-server", "--address", "127.0.0.1", "--port", str(port))
        daemon: list[str | Path] = ["criu", "lazy-pages", *source, "--work-dir", work]
        daemon += ["--images-dir", images.path]
        with ended(subprocess.Popen(daemon)) as paging:
            wait_for((work / "lazy-pages.socket").exists)
            images.restore(program.id(), "--lazy-pages", "--work-path", work)
            images.go_on()
            wait_for(lambda: len(images.counted()) > 256)
            assert paging.wait(timeout=30) == 0
        assert dumping.wait(timeout=30) == 0
    images.go_on()


def test_a_restore_whose_pages_do_not_come_leaves_nothing(program: Program, images: Images) -> None:
    """Of two processes, where CRIU 4.1 waits for itself."""
    name = images.counting()
    images.checkpoint(name)
    work = program.folder / "work"
    work.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(work / "lazy-pages.socket"))
        listener.listen()
        words = images.restoring(name, "--lazy-pages", "--work-path", work)
        command: list[str | Path] = [program.script, "--root", program.root, *words]
        null = subprocess.DEVNULL
        with ended(subprocess.Popen(command, stdin=null, stdout=null, stderr=null)) as restoring:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()
            assert restoring.wait(timeout=30) == 1
    assert program.ok("list", "--quiet") == ""
