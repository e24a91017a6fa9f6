"""What tells one engine from others on the machine."""

import hashlib
import uuid
from pathlib import Path

from orlop.errors import OrlopError


def identity(root: Path) -> str:
    """Return what this engine is called; made up once for each root."""
    path = root / "engine-id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        made = str(uuid.uuid4())
        path.write_text(made + "\n")
        return made
    except OSError as error:
        raise OrlopError(f"cannot read {path}: {error.strerror}") from error


def label(root: Path) -> str:
    """Return eight hex digits that are this engine's, in the names of what it makes."""
    return hashlib.sha256(identity(root).encode()).hexdigest()[:8]
