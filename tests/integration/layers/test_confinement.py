"""What the process that parses a stranger's layer cannot do, asked of the kernel."""

import contextlib
import errno
import os
import signal
import socket
import tarfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.kernel import landlock
from orlop.kernel.capabilities import mask
from orlop.kernel.mount import mount
from orlop.kernel.namespaces import Namespace, unshare
from orlop.layers.budget import DEFAULT, Budget
from orlop.programs.confinement import USER, Plan, Reach
from tests.crafting import add, layer
from tests.integration.layers.test_worker import Worker
from tests.integration.layers.test_worker import worker as worker

PLAN = Plan.make()


def confined(work: Callable[[], object], reach: Reach, plan: Plan = PLAN) -> None:
    """Do *work* in a child that is confined; its failure is the test's."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            plan.enter(reach, DEFAULT)
            work()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert (text, status) == ("", 0)


def refused(work: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        work()
    assert caught.value.errno in (errno.EPERM, errno.EACCES)


def ruin(folder: Path) -> None:
    """Try what somebody would who has taken over the process."""
    home = folder / "inside"
    refused(lambda: Path("/etc/shadow").read_bytes())
    refused(lambda: os.listdir("/root"))
    refused(lambda: Path("/etc/orlop-was-here").touch())
    refused(lambda: Path("/proc/sys/kernel/core_pattern").write_text("|/bin/sh"))
    os.mknod(home / "disk", 0o60666, os.makedev(7, 0))  # as layers may have them
    refused(lambda: os.open(home / "disk", os.O_RDONLY))
    refused(lambda: mount("none", str(home), fstype="tmpfs"))
    refused(lambda: unshare(Namespace.USER))
    refused(lambda: socket.socket(socket.AF_UNIX))  # the engine's own is one
    refused(lambda: os.kill(os.getppid(), signal.SIGTERM))
    refused(lambda: os.execv("/bin/sh", ["sh", "-c", "true"]))
    refused(lambda: unshare(Namespace.UTS))


def test_confined_process_reaches_nothing_but_its_folders(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    confined(lambda: ruin(tmp_path), Reach([str(tmp_path / "inside")]))


def test_files_that_a_confined_process_makes_are_root_s(tmp_path: Path) -> None:
    confined(lambda: (tmp_path / "folder").mkdir(), Reach([str(tmp_path)]))
    status = (tmp_path / "folder").stat()
    assert (status.st_uid, status.st_gid) == (0, 0)


def test_job_without_a_registry_has_no_network(tmp_path: Path) -> None:
    def work() -> None:
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            refused(lambda family=family: socket.socket(family))  # type: ignore[misc] # a default

    confined(work, Reach([str(tmp_path)]))


def test_job_that_fetches_connects_and_accepts_no_connection(tmp_path: Path) -> None:
    def work() -> None:
        with socket.create_connection(address):
            pass
        with socket.socket() as made:
            refused(lambda: made.bind(("127.0.0.1", 0)))
            refused(lambda: made.listen())

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        confined(work, Reach([str(tmp_path)], network=True))


@pytest.mark.skipif(not landlock.abi(), reason="needs landlock")
def test_certificates_of_the_registry_can_be_read_and_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "mine.pem").touch()
    (tmp_path / "theirs.pem").touch()
    (tmp_path / "inside").mkdir()

    def work() -> None:
        (tmp_path / "mine.pem").read_bytes()
        refused(lambda: (tmp_path / "theirs.pem").read_bytes())

    confined(work, Reach([str(tmp_path / "inside")], [str(tmp_path / "mine.pem")]))


def test_host_without_landlock_or_seccomp_says_so_and_confines_by_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    monkeypatch.setattr("orlop.programs.confinement.compile_filter", _no_library)
    plan = Plan.make()
    assert plan.missing == ("landlock", "seccomp")

    def work() -> None:
        refused(lambda: os.kill(1, 0))
        assert os.getuid() == USER

    confined(work, Reach([str(tmp_path)]), plan)


def _no_library(*_: object, **__: object) -> object:
    from orlop.errors import UnsupportedError

    raise UnsupportedError("this host has no libseccomp")


def test_job_s_process_has_its_own_user_few_capabilities_and_a_filter(
    worker: Worker,
) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        for number in range(40):
            add(tar, f"{number}", data=os.urandom(1 << 20))

    data = layer(fill)
    worker.send(worker.job(data, data))
    status = _status_of_child(worker.process.pid)
    assert set(status["Uid"].split()[:3]) == {str(USER)}
    allowed = mask(
        f"CAP_{name}"
        for name in (
            *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"),
            *("SETGID", "SETUID", "SYS_ADMIN"),
        )
    )
    assert int(status["CapEff"], 16) & ~allowed == 0
    assert int(status["CapBnd"], 16) & ~allowed == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def _status_of_child(parent: int) -> dict[str, str]:
    """Return the status of the child of *parent* once it is confined."""
    while True:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{child}/status").read_text().splitlines()
                status = {k: v.strip() for k, _, v in (line.partition(":") for line in lines)}
                if status.get("Seccomp") == "2":
                    return status


def test_job_beyond_its_memory_is_refused_and_the_worker_goes_on(worker: Worker) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        for number in range(50_000):
            add(tar, f"{number:0200}")

    data, small = layer(fill), layer(lambda tar: add(tar, "x"))
    budget = Budget(memory_bytes=48 << 20)
    report = worker.run(worker.job(data, data, driver="erofs", budget=budget))
    assert report["kind"] == "exhausted", report
    assert "memory" in report["message"]
    assert worker.run(worker.job(small, small))["event"] == "done"


def test_worker_tells_what_the_host_lacks(worker: Worker) -> None:
    assert worker.missing == list(PLAN.missing)
