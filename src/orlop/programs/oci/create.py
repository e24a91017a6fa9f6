"""`orlop-runtime create`."""

from __future__ import annotations

import os

from orlop.lifecycle import create
from orlop.lifecycle.folder import Folder
from orlop.programs.oci.making import Making as Args
from orlop.programs.oci.making import request, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


def run(args: Args, settings: Settings) -> int:
    """Make the container and leave it waiting for its start."""
    created = create.create(Folder(settings.folder, args.container), request(args, settings))
    warn(created, settings)
    os.close(created.starting.pidfd)
    return 0


__all__ = ["Args", "run"]
