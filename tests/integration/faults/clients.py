"""Both command lines against one engine, and what a failure of theirs must look like."""

import subprocess
import sys
from typing import NamedTuple

from tests.integration.engines import EngineProcess

PROGRAMS = {"docker": ["docker"], "orlop": [sys.executable, "-P", "-m", "orlop"]}
_MOST_LINES = 6  # docker adds a hint on where its help is, and an empty line


class Failed(NamedTuple):
    code: int
    error: str


def run(engine: EngineProcess, client: str, *words: str, given: str = "") -> Failed:
    """Run a command that must fail; it says why in a sentence, with no traceback anywhere."""
    before = len(engine.log())
    done = subprocess.run(
        [*PROGRAMS[client], *words],
        env=engine.environment(),
        input=given,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0, (words, done.stdout, done.stderr)
    said = done.stderr.strip() or done.stdout.strip()
    assert said, words
    assert len(said.splitlines()) <= _MOST_LINES, said
    assert len(said) < 1500, said
    for text in (said, engine.log()[before:]):
        assert "Traceback" not in text, text
    return Failed(done.returncode, said)
