"""`orlop-runtime update`."""

from __future__ import annotations

import sys

from orlop.cli.options import Arguments, number, operand, text
from orlop.errors import CorruptError, InvalidArgumentError, UnsupportedError
from orlop.lifecycle.folder import Folder, read
from orlop.lifecycle.update import update
from orlop.model import jsontext
from orlop.model.oci_shape import RESOURCES, check
from orlop.model.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orlop.model.oci import Resources
    from orlop.programs.oci.main import Settings


def size(word: str) -> int:
    """Return the bytes of *word*, or -1 for no limit; ValueError."""
    return -1 if word == "-1" else parse_size(word)


class Args(Arguments):
    resources = text(
        "-r",
        "--resources",
        metavar="FILE",
        help="JSON of linux.resources from FILE, or - for standard input; all others are ignored",
    )
    blkio_weight = number("--blkio-weight", help="weight of block I/O, 10 to 1000")
    cpu_period = number("--cpu-period", metavar="MICROSECONDS", help="CFS period")
    cpu_quota = number("--cpu-quota", metavar="MICROSECONDS", help="CFS hard limit in a period")
    cpu_burst = number("--cpu-burst", metavar="MICROSECONDS", help="CFS burst")
    cpu_share = number("--cpu-share", help="relative weight of processor time")
    cpu_rt_period = number("--cpu-rt-period", metavar="MICROSECONDS", help="realtime period")
    cpu_rt_runtime = number("--cpu-rt-runtime", metavar="MICROSECONDS", help="realtime limit")
    cpu_idle = number("--cpu-idle", help="1 for SCHED_IDLE, 0 for the usual")
    cpuset_cpus = text("--cpuset-cpus", metavar="LIST", help="processors to use")
    cpuset_mems = text("--cpuset-mems", metavar="LIST", help="memory nodes to use")
    memory = number("--memory", metavar="BYTES", convert=size, help="memory limit")
    memory_reservation = number(
        "--memory-reservation", metavar="BYTES", convert=size, help="soft limit of memory"
    )
    memory_swap = number(
        "--memory-swap", metavar="BYTES", convert=size, help="memory and swap; -1 for no limit"
    )
    kernel_memory = number("--kernel-memory", metavar="BYTES", convert=size, help="ignored")
    kernel_memory_tcp = number("--kernel-memory-tcp", metavar="BYTES", convert=size, help="ignored")
    pids_limit = number("--pids-limit", help="most processes; -1 for no limit")
    l3_cache_schema = text("--l3-cache-schema", metavar="SCHEMA", help="Intel RDT; not supported")
    mem_bw_schema = text("--mem-bw-schema", metavar="SCHEMA", help="Intel RDT; not supported")
    container = operand("container-id")


def run(args: Args, settings: Settings) -> int:
    """Change the limits of a running container."""
    if args.l3_cache_schema or args.mem_bw_schema:
        raise UnsupportedError("Intel RDT is not supported")
    folder = Folder(settings.folder, args.container)
    update(folder, _read(args.resources) if args.resources else _given(args))
    return 0


def _given(args: Args) -> Resources:
    """Return the limits in the options; others are left alone."""
    cpu = {
        "shares": args.cpu_share,
        "quota": args.cpu_quota,
        "period": args.cpu_period,
        "burst": args.cpu_burst,
        "realtimeRuntime": args.cpu_rt_runtime,
        "realtimePeriod": args.cpu_rt_period,
        "idle": args.cpu_idle,
        "cpus": args.cpuset_cpus or None,
        "mems": args.cpuset_mems or None,
    }
    memory = {
        "limit": args.memory,
        "reservation": args.memory_reservation,
        "swap": args.memory_swap,
    }
    kinds: dict[str, dict[str, Any]] = {
        "cpu": cpu,
        "memory": memory,
        "pids": {"limit": args.pids_limit},
        "blockIO": {"weight": args.blkio_weight},
    }
    resources: Resources = {}
    for kind, values in kinds.items():
        if given := {name: value for name, value in values.items() if value is not None}:
            resources[kind] = given  # type: ignore[literal-required]  # a key of its own kind
    return resources


def _read(path: str) -> Resources:
    data = sys.stdin.buffer.read() if path == "-" else read(path)
    try:
        resources: Resources = jsontext.loads(data)
    except CorruptError as error:
        raise InvalidArgumentError(f"cannot read the resources: {error}") from error
    check(resources, RESOURCES, "resources")
    return resources
