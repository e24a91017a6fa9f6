"""The timeout for a process to reach its program.

Processes of a pid namespace that it has joined can stop it on its way: then the start is undone.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.model.oci import Config

START_S = 60.0


def patience_s(config: Config) -> float | None:
    """Return the timeout of a first process; None if hooks run on its way."""
    hooks = config.get("hooks", {})
    return None if hooks.get("createContainer") or hooks.get("startContainer") else START_S
