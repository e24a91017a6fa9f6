"""How long a process may take from its making to its program.

Those whose pid namespace it has joined can stop it on its way: then the start is undone.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.model.oci import Config

START_S = 60.0


def patience_s(config: Config) -> float | None:
    """Return it for a first process; None, any time, where hooks are run on its way."""
    hooks = config.get("hooks", {})
    return None if hooks.get("createContainer") or hooks.get("startContainer") else START_S
