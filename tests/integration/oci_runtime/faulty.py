"""`orlop-runtime` with a defect: making or looking at a container raises what nobody expects."""

import sys
from pathlib import Path

_SCRIPT = f"""\
#!{sys.executable}
import sys
from orlop.lifecycle import create, record
from orlop.programs.oci import sealing
from orlop.programs.oci.main import program

def fault(*words, **named):
    raise KeyError("fault")

create.start = record.start_ticks = fault
sealing.check = lambda: None
sys.exit(program())
"""


def write_faulty(path: Path) -> Path:
    """Write the program to *path*."""
    path.write_text(_SCRIPT)
    path.chmod(0o755)
    return path
