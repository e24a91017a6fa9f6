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
    """Yield the state of each container, by id; one that disappears meanwhile is left out.

    So is one that cannot be read; *complain* gets the reason.
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
