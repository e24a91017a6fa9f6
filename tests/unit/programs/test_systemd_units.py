"""The unit files for systemd, as `systemctl enable` sees them in a root of their own."""

import shutil
import subprocess
from pathlib import Path

import pytest

import orlop

_UNITS = Path(orlop.__file__).parent / "programs/systemd"
_WANTED = {
    "multi-user.target.wants/orlop.service",
    "sockets.target.wants/orlop.socket",
}


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemctl is not installed")
@pytest.mark.parametrize("unit", ["orlop.socket", "orlop.service"])
def test_enabling_one_unit_enables_the_service_and_the_socket(unit: str, tmp_path: Path) -> None:
    """The service must start at boot, because it alone starts containers by restart policy."""
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    for file in ("orlop.service", "orlop.socket"):
        shutil.copy(_UNITS / file, folder)
    subprocess.run(["systemctl", f"--root={tmp_path}", "enable", unit], check=True, timeout=60)
    wants = folder.glob("*.wants/*")
    assert {str(link.relative_to(folder)) for link in wants} == _WANTED
