"""The program behind `scripts/orlop-runtime`, sealed if possible."""

from __future__ import annotations

import os
import sys

from orlop.programs.oci.main import program
from orlop.programs.oci.sealing import ANEW, UNSEALED, is_current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def started(interpreter: str, script: str) -> NoReturn:
    """Run the sealed program, unless the *interpreter* has been replaced since it was sealed."""
    if os.environ.pop(ANEW, None) is None and not is_current(interpreter):
        os.execve(script, [script, *sys.argv[1:]], {**os.environ, ANEW: "1"})
    os._exit(program())


def unsealed() -> NoReturn:
    """Run the program; as root, seal it first if that has not been done."""
    place = os.environ.pop("ORLOP_SEALED", "")
    if place and not os.geteuid():
        _move_to(place)
    os.environ.pop(ANEW, None)
    os._exit(program())


def _move_to(place: str) -> None:
    from orlop.programs.oci.sealed_place import run_from

    try:
        run_from(place, anew=ANEW in os.environ)
    except Exception as error:  # sealing.check() has a slower alternative
        os.environ[UNSEALED] = f"{place}: {type(error).__name__}: {error}"
