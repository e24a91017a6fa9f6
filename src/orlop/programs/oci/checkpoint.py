"""`orlop-runtime checkpoint`."""

from __future__ import annotations

from orlop.cli.options import flag, number, operand, text
from orlop.lifecycle.checkpoint import Request, checkpoint
from orlop.lifecycle.folder import Folder
from orlop.programs.oci.imaging import Imaging, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Imaging):
    parent_path = text(
        "--parent-path", metavar="FOLDER", help="images of an earlier pre-dump, seen from these"
    )
    leave_running = flag("-R", "--leave-running", help="leave the container running")
    pre_dump = flag("--pre-dump", help="write only its memory, and leave the container running")
    tcp_skip_in_flight = flag("--tcp-skip-in-flight", help="leave out connections being made")
    link_remap = flag("--link-remap", help="allow files whose name was removed to get another")
    page_server = text("--page-server", metavar="ADDRESS:PORT", help="where pages are sent")
    status_fd = number("--status-fd", help="write a zero byte to N when pages can be asked for")
    container = operand("container-id")


def run(args: Args, settings: Settings) -> int:
    """Write images of a running container, and end it unless it has to keep running."""
    request = Request(
        options(args),
        parent_path=args.parent_path,
        leave_running=args.leave_running,
        pre_dump=args.pre_dump,
        tcp_skip_in_flight=args.tcp_skip_in_flight,
        link_remap=args.link_remap,
        page_server=args.page_server,
        status_fd=-1 if args.status_fd is None else args.status_fd,
    )
    checkpoint(Folder(settings.folder, args.container), request)
    return 0
