"""A container has the device of tunnels, which is much of the kernel, only where it asks for it."""

from pathlib import Path

import pytest

import orlop
from tests.integration.engines import EngineProcess

_OPEN = "mknod -m 600 /tunnel c 10 200; : <>/tunnel && echo open"

pytestmark = pytest.mark.skipif(
    not Path("/dev/net/tun").is_char_device(), reason="the kernel has no tunnels"
)


def test_tunnels_are_opened_only_where_the_device_is_asked_for(
    engine: EngineProcess, image: str
) -> None:
    def run(*options: str) -> str:
        return engine.docker("run", "--rm", *options, image, "sh", "-c", _OPEN, check=False).stdout

    assert run() == ""
    assert run("--cap-add=NET_ADMIN") == ""
    assert run("--device=/dev/net/tun") == "open\n"
    assert run("--device-cgroup-rule=c 10:200 rw") == "open\n"
    assert run("--privileged") == "open\n"


def test_a_sandbox_opens_no_tunnels(engine: EngineProcess, image: str) -> None:
    with orlop.Sandbox(image=image, engine=engine.url, cap_add=["MKNOD"]) as box:
        done = box.run(["sh", "-c", _OPEN])
    assert b"not permitted" in done.stderr
    assert done.stdout == b""
