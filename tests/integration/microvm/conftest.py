"""A host on which `orlop vm setup` has run; the kernel it downloads is kept beside the tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from orlop.microvm import accelerator, setup
from orlop.microvm.machine import Kind
from orlop.microvm.template import Template, template
from tests.outside import outside

ROOT = Path(__file__).parents[3] / ".cache" / "vm"


@pytest.fixture(scope="session")
def saved(kind: Kind) -> Template:
    """The template of the smallest machines, kept beside the tests, too."""
    return template(str(ROOT), kind)


@pytest.fixture(scope="session")
def kind() -> Kind:
    """What machines start from, as the command has set it up."""
    words = [sys.executable, "-m", "orlop", "--root", str(ROOT), "vm", "setup"]
    done = subprocess.run(outside(words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    image = setup.current(str(ROOT))
    assert done.stdout.startswith(f"{image}\nvirtual machines ")
    return Kind(f"{image}/vmlinux", f"{image}/initrd", accelerator.find(image))
