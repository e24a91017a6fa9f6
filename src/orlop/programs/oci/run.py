"""`orlop-runtime run`."""

from __future__ import annotations

import os

from orlop.cli.options import flag
from orlop.lifecycle import create
from orlop.lifecycle.folder import Folder
from orlop.programs.oci.making import Making, request, warn
from orlop.runtime.bundle import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.create import Request
    from orlop.programs.oci.main import Settings


class Args(Making):
    detach = flag("-d", "--detach", help="do not wait for the container's process")
    keep = flag("--keep", help="do not delete the container after it exits")
    no_subreaper = flag("--no-subreaper", help="accepted: the process is our child anyhow")


def run(args: Args, settings: Settings) -> int:
    """Make a container and run it; its exit code is ours, unless detached."""
    folder = Folder(settings.folder, args.container)
    wanted = request(args, settings, detach=args.detach)
    if args.detach:
        created = create.run(folder, wanted, Stdio(0, 1, 2))
        warn(created, settings)
        if created.notifier is not None:
            created.notifier.wait(created.starting.pid)
        os.close(created.starting.pidfd)
        return 0
    return _attached(folder, wanted, settings, keep=args.keep)


def _attached(folder: Folder, wanted: Request, settings: Settings, *, keep: bool) -> int:
    from orlop.lifecycle.delete import delete
    from orlop.programs.oci.foreground import Foreground, Streams

    with Foreground() as foreground, Streams() as streams:
        created = create.run(folder, wanted, streams.stdio)
        warn(created, settings)
        try:
            return foreground.serve(created.starting, streams, created.notifier)
        finally:
            if not keep:
                for warning in delete(folder, force=True):
                    settings.journal.warning(warning)
