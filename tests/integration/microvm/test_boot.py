"""A virtual machine boots from this host's files, and its agent runs processes."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orlop.errors import UnavailableError
from orlop.microvm.machine import Kind, Machine
from orlop.microvm.system import interpreter
from orlop.microvm.template import Template


@pytest.fixture(scope="module")
def machine(saved: Template) -> Iterator[Machine]:
    with saved.clone("guest-1") as machine:
        yield machine


def python(code: str) -> list[str]:
    return [interpreter(), "-I", "-S", "-c", code]


def test_the_guest_has_a_kernel_of_its_own(machine: Machine) -> None:
    code = "import os; print(os.uname().release, os.uname().nodename)"
    output = machine.agent.run(python(code))
    release, hostname = output.stdout.decode().split()
    assert release != os.uname().release
    assert hostname == "guest-1"


def test_more_bytes_than_the_window_go_in_and_out_unchanged(machine: Machine) -> None:
    data = os.urandom(3_000_001)
    copy = (
        "import os\nwhile data := os.read(0, 65536):\n while data: data = data[os.write(1, data):]"
    )
    output = machine.agent.run(python(copy), stdin=data)
    assert (output.status, output.stderr) == (0, b"")
    assert output.stdout == data


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_exit_statuses_come_out(machine: Machine, code: str, status: int) -> None:
    assert machine.agent.run(python(code)).status == status


def test_a_program_that_is_missing_ends_with_127(machine: Machine) -> None:
    output = machine.agent.run(["/no/such"])
    assert (output.status, output.stderr) == (127, b"/no/such: No such file or directory\n")


def test_the_agent_goes_on_after_a_request_it_refuses(machine: Machine) -> None:
    with pytest.raises(UnavailableError, match="a process needs its arguments"):
        machine.agent.run([])
    assert machine.agent.run(python("")).status == 0


def test_the_machine_dies_with_the_process_that_started_it(kind: Kind) -> None:
    code = (
        "import os, sys; from orlop.microvm.machine import Kind, Machine\n"
        "print(Machine(Kind(sys.argv[1], sys.argv[2], sys.argv[3]), []).pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    words = [sys.executable, "-c", code, kind.kernel, kind.initrd, kind.accelerator]
    starter = subprocess.run(words, capture_output=True, check=False)
    with suppress(ProcessLookupError):  # it may have ended before we look
        fd = os.pidfd_open(int(starter.stdout))
        assert select.select([fd], [], [], 10)[0], "QEMU goes on"
        os.close(fd)


def test_qemu_has_a_network_of_its_own_and_a_seccomp_filter(machine: Machine) -> None:
    process = Path(f"/proc/{machine.pid}")
    assert process.joinpath("ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    interfaces = process.joinpath("net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo", "tap0"]
    assert "Seccomp:\t2" in process.joinpath("status").read_text()
