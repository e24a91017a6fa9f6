"""What an interpreter has imported once it has done something."""

import subprocess
import sys


def modules_after(statements: str) -> set[str]:
    """Return the names of all modules that are there after *statements*, with nothing from site."""
    program = (
        "import sys; sys.path[:0] = [p for p in sys.argv[1].split(':') if p]; "
        f"{statements}; print(' '.join(sys.modules))"
    )
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, path],
        text=True,
        capture_output=True,
        check=True,
    )
    return set(done.stdout.split())
