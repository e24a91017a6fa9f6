"""All containers of a root."""

from __future__ import annotations

from orlop.errors import CorruptError, NotFoundError
from orlop.lifecycle.folder import all_folders
from orlop.lifecycle.record import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def states(root: str) -> Iterator[dict[str, Any]]:
    """Give the state of each container, by id; one that goes meanwhile is left out."""
    for folder in all_folders(root):
        try:
            answer = state(folder, folder.load()) | {"owner": folder.owner()}
        except (NotFoundError, FileNotFoundError, CorruptError):
            continue
        yield answer
