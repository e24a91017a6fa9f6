"""Health checks: a process in the container, now and then, that says how it is."""

import asyncio
import contextlib
import logging
import time

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.execs.capture import Captured
from orlop.engine.execs.execs import Execs
from orlop.errors import OrlopError
from orlop.model.container import Container, ExecOptions, HealthResult, HealthState
from orlop.model.container import Health as Check

log = logging.getLogger(__name__)

_INTERVAL_NS = 30_000_000_000
_TIMEOUT_NS = 30_000_000_000
_RETRIES = 3
_KEPT = 5
_MAX_OUTPUT = 4096


class Health:
    """One task for each running container that has a check."""

    def __init__(self, context: Context, execs: Execs) -> None:
        self._context = context
        self._execs = execs

    def watch(self, container: Container) -> None:
        check = container.options.health
        if container.health is None or check is None:
            return
        self.stop(container.id)
        task = self._context.spawn(self._watch(container.id, check, container.started_ns))
        self._context.live(container.id).health = task

    def stop(self, container_id: str) -> None:
        live = self._context.live(container_id)
        if live.health is not None:
            live.health.cancel()
            live.health = None

    async def _watch(self, container_id: str, check: Check, started_ns: int) -> None:
        left_ns = started_ns + check.start_period_ns - time.time_ns()  # the clock may be set
        starts_until = time.monotonic() + max(0, min(left_ns, check.start_period_ns)) / 1e9
        while True:
            is_starting = time.monotonic() < starts_until
            is_starting = is_starting and self._status(container_id) == "starting"
            await asyncio.sleep(pause_ns(check, is_starting=is_starting) / 1e9)
            result = await self._probe(container_id, check)
            if result is None:
                return
            self._record(container_id, result, check, lenient=time.monotonic() < starts_until)

    def _status(self, container_id: str) -> str:
        health = self._context.records.get(container_id).health
        return health.status if health else ""

    async def _probe(self, container_id: str, check: Check) -> HealthResult | None:
        """Run the check once; None when the container is gone or stopped."""
        container = self._context.records.get(container_id)
        if not container.running:
            return None
        start_ns = time.time_ns()
        timeout_s = (check.timeout_ns or _TIMEOUT_NS) / 1e9
        try:
            captured = await self._execs.capture(
                container_id,
                ExecOptions(command=_command(check)),
                timeout_s=timeout_s,
                limit=2 * _MAX_OUTPUT,
            )
        except OrlopError as error:
            captured = Captured(-1, why=str(error))
        code = captured.exit_code
        output = captured.why or captured.output()[:_MAX_OUTPUT].decode(errors="replace")
        if code is None:
            code = -1
            why = f"Health check exceeded timeout ({timeout_s:g}s)"
            output = f"{why}: {output}" if output else why
        return HealthResult(start_ns=start_ns, end_ns=time.time_ns(), exit_code=code, output=output)

    def _record(
        self, container_id: str, result: HealthResult, check: Check, *, lenient: bool
    ) -> None:
        container = self._context.records.get(container_id)
        before = container.health
        if before is None or not container.running:
            return
        after = judge(before, result, retries=check.retries or _RETRIES, lenient=lenient)
        self._context.records.note(replace(container, health=after))
        if after.status != before.status:
            self._context.announce(container, f"health_status: {after.status}")


def pause_ns(check: Check, *, is_starting: bool) -> int:
    """Return the time until the next probe. A start interval counts within the start period."""
    if is_starting and check.start_interval_ns:
        return check.start_interval_ns
    return check.interval_ns or _INTERVAL_NS


def judge(before: HealthState, result: HealthResult, *, retries: int, lenient: bool) -> HealthState:
    """Return the state after *result*; *lenient*: within the start period failures do not count."""
    log_ = (*before.log, result)[-_KEPT:]
    if result.exit_code == 0:
        return HealthState(status="healthy", failing_streak=0, log=log_)
    if lenient and before.status == "starting":
        return replace(before, log=log_)
    streak = before.failing_streak + 1
    status = "unhealthy" if streak >= retries else before.status
    return HealthState(status=status, failing_streak=streak, log=log_)


def _command(check: Check) -> tuple[str, ...]:
    with contextlib.suppress(IndexError):
        if check.test[0] == "CMD-SHELL":
            return ("/bin/sh", "-c", *check.test[1:2])
        if check.test[0] == "CMD":
            return check.test[1:]
    return check.test
