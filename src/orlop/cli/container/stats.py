"""orlop stats."""

from __future__ import annotations

import time

from orlop.cli.options import CONTAINER, Command, flag, operands, text
from orlop.cli.output.listing import Listing
from orlop.cli.output.units import binary_size, short_id, size
from orlop.cli.screen import canvas
from orlop.errors import NotFoundError, WrongStateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

_PERIOD_S = 1.0
_CLEAR = "\033[H\033[2J"
LISTING = Listing(
    {
        "ID": "CONTAINER ID",
        "Container": "CONTAINER",
        "Name": "NAME",
        "CPUPerc": "CPU %",
        "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %",
        "NetIO": "NET I/O",
        "BlockIO": "BLOCK I/O",
        "PIDs": "PIDS",
    },
    default=("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
)


class StatsCommand(Command):
    description = "Shows what containers use: all that run, or those that are named."
    examples = (("orlop stats --no-stream --format json", "once, for a program"),)

    all_states = flag("-a", "--all", help="also show stopped containers")
    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    no_stream = flag("--no-stream", help="print once and exit")
    no_trunc = flag("--no-trunc", help="show ids in full")
    names = operands("CONTAINER", optional=True, completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Show them once a second until interrupted, or once."""
        for name in self.names:  # one that does not exist is an error, one that goes away is not
            client.containers.inspect(name)
        before = _samples(self, client)
        while True:
            time.sleep(_PERIOD_S)
            now = _samples(self, client)
            rows = [
                row(sample, before.get(name, sample), name=name, full=self.no_trunc)
                for name, sample in now.items()
            ]
            if not self.no_stream and out.isatty():
                canvas(out).write(_CLEAR)
            LISTING.show(rows, out, form=self.form)
            out.flush()
            if self.no_stream:
                return 0
            before = now


def _samples(args: StatsCommand, client: Client) -> dict[str, dict[str, Any]]:
    """Read one sample of each container; what has gone meanwhile is left out."""
    samples = {}
    for found in client.containers.list(all_states=args.all_states or bool(args.names)):
        identifier, names = str(found["Id"]), [name.lstrip("/") for name in found["Names"]]
        if args.names and not _is_meant(identifier, names, args.names):
            continue
        try:
            sample = next(client.containers.stats(identifier, stream=False, one_shot=True))
        except (NotFoundError, WrongStateError, StopIteration):
            continue
        samples[identifier] = {**sample, "id": identifier, "name": names[0] if names else ""}
    return samples


def _is_meant(identifier: str, names: list[str], wanted: list[str]) -> bool:
    return any(word in names or identifier.startswith(word) for word in wanted)


def row(sample: dict[str, Any], before: dict[str, Any], *, name: str, full: bool) -> dict[str, str]:
    """Return the fields for one container, from two samples of it."""
    memory, limit = used_memory(sample), (sample.get("memory_stats") or {}).get("limit") or 0
    networks = (sample.get("networks") or {}).values()
    received = sum(network["rx_bytes"] for network in networks)
    sent = sum(network["tx_bytes"] for network in networks)
    read, written = _block_io(sample)
    identifier = str(sample.get("id") or name)
    return {
        "ID": identifier if full else short_id(identifier),
        "Container": name if full else short_id(name),
        "Name": str(sample.get("name") or "").lstrip("/"),
        "CPUPerc": f"{cpu_percent(sample, before):.2f}%",
        "MemUsage": f"{binary_size(memory)} / {binary_size(limit)}",
        "MemPerc": f"{100 * memory / limit if limit else 0:.2f}%",
        "NetIO": f"{size(received)} / {size(sent)}",
        "BlockIO": f"{size(read)} / {size(written)}",
        "PIDs": str((sample.get("pids_stats") or {}).get("current") or 0),
    }


def cpu_percent(sample: dict[str, Any], before: dict[str, Any]) -> float:
    """Return the share of one processor used between two samples, in percent."""
    now, then = sample.get("cpu_stats") or {}, before.get("cpu_stats") or {}
    used = _total(now) - _total(then)
    passed = (now.get("system_cpu_usage") or 0) - (then.get("system_cpu_usage") or 0)
    processors = now.get("online_cpus") or 1
    return 100 * processors * used / passed if used > 0 and passed > 0 else 0.0


def _total(cpu: dict[str, Any]) -> int:
    return int((cpu.get("cpu_usage") or {}).get("total_usage") or 0)


def used_memory(sample: dict[str, Any]) -> int:
    """Return bytes in use without the page cache that can be dropped, as Docker counts."""
    memory = sample.get("memory_stats") or {}
    details = memory.get("stats") or {}
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    usage = int(memory.get("usage") or 0)
    return usage - inactive if inactive < usage else usage


def _block_io(sample: dict[str, Any]) -> tuple[int, int]:
    entries = (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    totals = {"read": 0, "write": 0}
    for entry in entries:
        operation = str(entry["op"]).lower()
        if operation in totals:
            totals[operation] += entry["value"]
    return totals["read"], totals["write"]
