"""`orlop-runtime spec`."""

from __future__ import annotations

import os

from orlop.cli.options import Arguments, flag, text
from orlop.errors import AlreadyExistsError
from orlop.model import jsontext
from orlop.programs.oci.starter import rootless, starter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Arguments):
    bundle = text(
        "-b", "--bundle", metavar="FOLDER", default=".", help="path to the root of the bundle"
    )
    rootless = flag("--rootless", help="for an ordinary user, with a user namespace")


def run(args: Args, settings: Settings) -> int:
    """Write an example config.json."""
    del settings
    config = starter()
    if args.rootless:
        config = rootless(config, uid=os.geteuid(), gid=os.getegid())
    path = os.path.join(args.bundle, "config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise AlreadyExistsError("File config.json exists. Remove it first") from None
    with os.fdopen(fd, "w") as file:
        file.write(jsontext.dumps(config, indent=4))
    return 0
