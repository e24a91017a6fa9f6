"""The systemd driver beside a real systemd, which needs a machine, or a box, of its own."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from orlop.runtime.cgroups.layout import detect
from tests.integration.cgroups.booted import ROOT, booted

INSIDE = Path(__file__).with_name("inside_systemd.py")


def modes() -> list[str]:
    """What this host has the cgroups for."""
    if os.geteuid() != 0 or not shutil.which("systemctl"):
        return []
    return ["hybrid", "v2"] if detect().v1 else ["v2"]


@pytest.mark.skipif(not modes(), reason="needs root and Debian's systemd")
@pytest.mark.parametrize("mode", modes())
def test_the_driver_keeps_its_promises(mode: str) -> None:
    with booted(mode) as box:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--rootdir", str(ROOT), "--confcutdir", str(INSIDE.parent), str(INSIDE)]
        status, said = box.run(*command, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert status == 0, said
