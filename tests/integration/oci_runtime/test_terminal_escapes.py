"""A program that has the caller's terminal as its streams cannot type on it."""

import fcntl
import os
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program

#: Exits with how many ways there were to put a command into the terminal's input.
_TYPIST = r"""
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static int type(int terminal) { return ioctl(terminal, TIOCSTI, "x") == 0; }

int main(void) {
    int ways = type(0) + type(1);
    char paste[2] = {3, 0};                    /* TIOCL_PASTESEL */
    ways += ioctl(0, TIOCLINUX, paste) == 0;
    ways += ioctl(0, TIOCSCTTY, 1) == 0;       /* takes it away from its session */
    ways += type(0);
    int own = open("/dev/tty", O_RDWR);        /* the caller's, if it is still ours */
    if (own >= 0) ways += type(own);
    return ways;
}
"""


@pytest.fixture
def typist(bundle: OCIBundle, tmp_path: Path) -> str:
    source = tmp_path / "typist.c"
    source.write_text(_TYPIST)
    subprocess.run(["cc", "-static", "-o", bundle.root / "bin/typist", source], check=True)
    return "typist"


def _as_leader(terminal: int) -> None:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_program_on_the_callers_terminal_cannot_type_on_it(
    program: Program, bundle: OCIBundle, typist: str, command: str
) -> None:
    if command == "exec":
        words = ["exec", program.running(bundle), typist]
    else:
        bundle.process["args"] = [typist]
        words = ["run", "--bundle", str(bundle.write()), program.id()]
    master, terminal = os.openpty()
    done = subprocess.run(
        [program.script, "--root", program.root, *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=lambda: _as_leader(terminal),
        timeout=60,
        check=False,
    )
    typed = struct.unpack("i", fcntl.ioctl(terminal, termios.FIONREAD, bytes(4)))[0]
    os.close(terminal)
    os.close(master)
    assert (done.returncode, typed) == (0, 0)
