"""Generated files are what tools/make-messages makes."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def test_generated_messages_are_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, _ROOT / "tools/make-messages", tmp_path], check=True)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in made} == {".binpb", ".pyi"}
    for path in made:
        assert path.read_bytes() == (_ROOT / "src" / path.relative_to(tmp_path)).read_bytes(), path
