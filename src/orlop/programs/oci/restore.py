"""`orlop-runtime restore`."""

from __future__ import annotations

import os

from orlop.cli.options import flag, text
from orlop.lifecycle.folder import Folder
from orlop.lifecycle.restore import Request, restore
from orlop.programs.oci.imaging import Imaging, options
from orlop.programs.oci.making import Making
from orlop.programs.oci.making import request as making
from orlop.runtime.bundle import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Imaging, Making):
    detach = flag("-d", "--detach", help="do not wait for the container's process")
    no_subreaper = flag("--no-subreaper", help="accepted: the process is our child anyhow")
    lsm_profile = text("--lsm-profile", metavar="KIND:NAME", help="another profile than before")
    lsm_mount_context = text("--lsm-mount-context", metavar="CONTEXT", help="for mounts with one")


def run(args: Args, settings: Settings) -> int:
    """Restore a container from images; its exit code is ours, unless detached."""
    folder = Folder(settings.folder, args.container)
    wanted = Request(
        making(args, settings, detach=args.detach),
        options(args),
        lsm_profile=args.lsm_profile,
        lsm_mount_context=args.lsm_mount_context,
    )
    if args.detach:
        restored = restore(folder, wanted, Stdio(0, 1, 2))
        os.close(restored.starting.pidfd)
        return 0
    return _attached(folder, wanted)


def _attached(folder: Folder, wanted: Request) -> int:
    from orlop.lifecycle.delete import delete
    from orlop.programs.oci.foreground import Foreground, Streams

    with Foreground() as foreground, Streams() as streams:
        restored = restore(folder, wanted, streams.stdio)
        try:
            return foreground.serve(restored.starting, streams)
        finally:
            delete(folder, force=True)
