"""The reason why an `orlop-runtime`'s interpreter could not be sealed, until the next boot.

`orlop-runtime` records it, and `orlop info` shows it.
"""

from __future__ import annotations

import os
from contextlib import suppress

_FOLDER = "/run/orlop-unsealed"
_PROGRAM = "orlop-runtime"


def record(programs: str, reason: str) -> None:
    """Record why the `orlop-runtime` in the folder *programs* runs unsealed.

    If nothing can be written, only its log says so.
    """
    with suppress(OSError):
        os.makedirs(_FOLDER, 0o755, exist_ok=True)
        with open(_file(programs), "w", errors="replace") as file:
            file.write(reason)


def forget(programs: str) -> None:
    """Remove the record; a missing one is no error."""
    with suppress(OSError):
        os.unlink(_file(programs))
        os.rmdir(_FOLDER)  # unless it has other records


def reasons() -> dict[str, str]:
    """Return the reason for each `orlop-runtime` that runs unsealed, by its path."""
    found = {}
    with suppress(OSError):
        for name in sorted(os.listdir(_FOLDER)):
            program = os.path.join(name.replace("%2F", "/").replace("%25", "%"), _PROGRAM)
            if os.path.exists(program):
                with open(os.path.join(_FOLDER, name), errors="replace") as file:
                    found[program] = file.read()
    return found


def _file(programs: str) -> str:
    return os.path.join(_FOLDER, programs.replace("%", "%25").replace("/", "%2F"))
