"""All containers of a root."""

from __future__ import annotations

from orlop.errors import CorruptError, NotFoundError
from orlop.lifecycle.folder import all_folders
from orlop.lifecycle.record import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def states(root: str, complain: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Give the state of each container, by id; one that goes meanwhile is left out.

    One that cannot be read is left out too, and *complain* told why.
    """
    for folder in all_folders(root):
        try:
            answer = state(folder, folder.load()) | {"owner": folder.owner()}
        except (NotFoundError, FileNotFoundError):
            continue
        except CorruptError as error:
            complain(str(error))
            continue
        yield answer
