"""Select the containers that an argument names."""

from __future__ import annotations

from orlop.errors import InvalidArgumentError
from orlop.lifecycle.folder import Folder, all_folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from orlop.programs.oci.main import Settings


def chosen(settings: Settings, word: str, *, regex: bool) -> Sequence[Folder]:
    """Return the folder of container *word*; with *regex* those whose ids match it."""
    if not regex:
        return [Folder(settings.folder, word)]
    import re

    try:
        pattern = re.compile(word)
    except re.error as error:
        raise InvalidArgumentError(f"invalid regular expression {word!r}: {error}") from None
    return [folder for folder in all_folders(settings.folder) if pattern.search(folder.name)]
