"""The common options of `checkpoint` and `restore`, for CRIU."""

from __future__ import annotations

import os

from orlop.cli.options import Arguments, flag, text, texts
from orlop.criu.options import Options


class Imaging(Arguments):
    """Options of commands with images."""

    image_path = text(
        "--image-path", metavar="FOLDER", help="folder of the images (default: ./checkpoint)"
    )
    work_path = text(
        "--work-path", metavar="FOLDER", help="folder of work files and logs (default: the images')"
    )
    tcp_established = flag("--tcp-established", help="allow open TCP connections")
    ext_unix_sk = flag("--ext-unix-sk", help="allow external Unix sockets")
    shell_job = flag("--shell-job", help="allow shell jobs")
    file_locks = flag("--file-locks", help="handle file locks")
    lazy_pages = flag("--lazy-pages", help="restore memory as it is used, by userfaultfd")
    auto_dedup = flag("--auto-dedup", help="leave out of the images what is there already")
    manage_cgroups_mode = text(
        "--manage-cgroups-mode", metavar="MODE", help="soft (default), full, strict or ignore"
    )
    empty_ns = texts(
        "--empty-ns", metavar="KIND", help="make a namespace, but restore nothing in it (network)"
    )


def options(args: Imaging) -> Options:
    """Convert the options for the lifecycle."""
    return Options(
        image_path=os.path.abspath(args.image_path or "checkpoint"),
        work_path=os.path.abspath(args.work_path) if args.work_path else "",
        tcp_established=args.tcp_established,
        ext_unix_sk=args.ext_unix_sk,
        shell_job=args.shell_job,
        file_locks=args.file_locks,
        lazy_pages=args.lazy_pages,
        auto_dedup=args.auto_dedup,
        manage_cgroups_mode=args.manage_cgroups_mode,
        empty_ns=tuple(args.empty_ns),
    )
