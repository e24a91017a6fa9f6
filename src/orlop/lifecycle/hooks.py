"""Run the poststart and poststop hooks, if there are any."""

from __future__ import annotations

from orlop.errors import OrlopError
from orlop.lifecycle.kill import SIGKILL, send_all
from orlop.model.light import TYPE_CHECKING
from orlop.runtime import hooks

if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record
    from orlop.model.oci import Config


def started(record: Record, config: Config) -> None:
    """Run the bundle's poststart hooks; a failure ends the container."""
    own = record["orlop"]
    pid = record["init_process_pid"]
    try:
        hooks.run_poststart(config, container=record["id"], pid=pid, bundle=own["bundle"])
    except OrlopError:
        send_all(record, SIGKILL)
        raise


def stopped(record: Record, config: Config) -> list[str]:
    """Run the bundle's poststop hooks; return the failures, which stop nothing."""
    return hooks.run_poststop(config, container=record["id"], bundle=record["orlop"]["bundle"])
