"""Sandboxes that are started by recipes: records in memory, no files, no pumps.

They are containers to everything else: `ps`, `exec`, `stats`, `cp` find them by their id.
Whose they are, and what is done when they end, is the caller's (api/direct.py).
"""

import asyncio
import os
import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from orlop.engine.answers import Finished
from orlop.engine.containers.exits import resolve
from orlop.engine.context import Context
from orlop.engine.deadlines import Deadline, after
from orlop.engine.execs.execs import Execs
from orlop.engine.execs.messages import KILLED, Command, Ended
from orlop.engine.fork_sources import Fork
from orlop.engine.limits import TimeLimits
from orlop.engine.networks.networks import Networks
from orlop.engine.recipes import Recipe
from orlop.engine.records import short
from orlop.engine.turns import Turns
from orlop.errors import NotFoundError, OrlopError, UnavailableError, WrongStateError
from orlop.model.container import Container, Status
from orlop.model.network import Endpoint, PortMapping
from orlop.model.timeline import Recorder, steps_of

_AT_ONCE = 4  # starts, for each processor
_SIGKILL = 9


class Terms(NamedTuple):
    """On which a sandbox is had."""

    owner: str  # the process that it ends with: owners.describe()
    lifetime_s: float = 0.0  # 0: no limit
    fork: Fork | None = None  # with whose files it begins


class Sandboxes:
    def __init__(self, context: Context, *, execs: Execs, networks: Networks) -> None:
        self._context = context
        self._networks = networks
        self.turns = Turns(at_once=_AT_ONCE * (os.cpu_count() or 1))
        context.telemetry.queues["starts"] = lambda: self.turns.waiting
        self._execs = execs
        self._ended: dict[str, Ended] = {}
        self._early: dict[str, dict[str, Any]] = {}  # exits that were told before the start was
        self._gone: dict[str, asyncio.Future[None]] = {}  # that somebody waits for
        self._lives = TimeLimits[str](self._life_over)

    def knows(self, container_id: str) -> bool:
        """Whether it is one of these, and there."""
        return container_id in self._ended

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._ended)

    async def start(
        self, recipe: Recipe, command: Command, fds: Sequence[int], terms: Terms, *, ended: Ended
    ) -> str:
        """Start one and return its id; *fds*: stdin, stdout and stderr, or none.

        *ended* is called once it is gone. OrlopError with nothing left; UnsupportedError
        where the usual way is to be taken, ExhaustedError where too many starts wait.
        """
        times = self._context.telemetry.recorder()
        begun = times.now()
        await self.turns.take(terms.owner)
        times.note("wait_for_turn", begun)
        try:
            try:
                return await self._start(recipe, command, fds, terms, ended, times)
            except (NotFoundError, UnavailableError) as error:
                recipe = await self._instead(recipe, command, terms, error)
            return await self._start(recipe, command, fds, terms, ended, times)
        finally:
            self.turns.give_back()

    async def _instead(
        self, recipe: Recipe, command: Command, terms: Terms, error: OrlopError
    ) -> Recipe:
        """Return the recipe to start by after all; raises *error* unless its shim is lost.

        The next shim does not know it; or nobody knows what became of a start, but of one
        that runs nothing it does not matter.
        """
        idle = not command.words and terms.fork is None
        if self._context.shim.losses == recipe.shim or not (
            idle or isinstance(error, NotFoundError)
        ):
            raise error
        again = await recipe.again()
        if again.container.image != recipe.container.image:
            raise error
        return again

    async def _start(
        self,
        recipe: Recipe,
        command: Command,
        fds: Sequence[int],
        terms: Terms,
        ended: Ended,
        times: Recorder,
    ) -> str:
        container_id = terms.fork.id if terms.fork else secrets.token_hex(32)
        telemetry = self._context.telemetry
        message = _message(recipe.container, command, terms, container_id)
        message |= {"streams": bool(fds), "timed": telemetry.is_detailed()}
        if terms.fork is not None:
            message["written"] = True
            fds = (*fds, terms.fork.files)
        container = _described(recipe.container, command.words, container_id, terms.owner)
        self._ended[container_id] = ended
        try:
            if container.options.networks:
                running = await self._spawn_on_networks(container, recipe, message, fds, times)
            else:
                running = await self._spawn(container, message, fds, times)
        except BaseException as error:
            self._ended.pop(container_id, None)
            self._early.pop(container_id, None)
            telemetry.failed(container_id, error, times.steps)
            raise
        telemetry.done("spawn", container_id, times.steps, begin_ns=times.steps[0].begin_ns)
        if container_id in self._ended:
            ends = Deadline(message["meta"]["expires_ns"], message["meta"]["expires_boot"])
            if ends.expires_ns:
                self._lives.begin(container_id, ends.left_s())
        elif (exit_ := self._early.pop(container_id, None)) is not None:
            telemetry.ended(running, exit_)
        return container_id

    async def _spawn_on_networks(
        self,
        container: Container,
        recipe: Recipe,
        message: dict[str, Any],
        fds: Sequence[int],
        times: Recorder,
    ) -> Container:
        again, since = not recipe.may_change_networks, times.now()
        async with self._networks.lent(container, recipe.sysctls, again=again) as lent:
            message["files"], message["network"] = lent.files, len(lent.descriptors)
            message["meta"]["endpoints"] = msgspec.to_builtins(lent.container.endpoints)
            message["meta"]["ports"] = msgspec.to_builtins(lent.container.ports)
            times.note("network", since)
            return await self._spawn(lent.container, message, [*fds, *lent.descriptors], times)

    async def _spawn(
        self, container: Container, message: dict[str, Any], fds: Sequence[int], times: Recorder
    ) -> Container:
        """Have the shim start it, and record that it runs, unless it has ended; return that."""
        since = times.now()
        started = await self._context.shim.request(message, fds)
        times.note("shim", since)
        times.add(steps_of(started.get("steps", ())))
        running = _running(container, started)
        if container.id not in self._ended:
            return running
        if self._context.records.has(container.id):
            self._context.records.save(running)
        else:
            self._context.records.add(running, stored=False)
        return running

    def _life_over(self, container_id: str) -> None:
        self._execs.cut(container_id)
        self.end(container_id)

    def adopt(self, item: dict[str, Any]) -> None:
        """Take in a sandbox that an engine before us has started, as the shim lists it.

        Like others' of that engine it is minded by engine/owners.py.
        """
        told, container_id = item["sandbox"], item["id"]
        template = msgspec.convert(told["template"], Container)
        owner, meta = told["meta"]["owner"], told["meta"]
        started = {"pid": item["pid"], "time_ns": time.time_ns(), "cgroup": told["cgroup"]}
        self._ended[container_id] = lambda _: None
        made = replace(
            _described(template, (), container_id, owner),
            endpoints=msgspec.convert(told["meta"].get("endpoints", ()), tuple[Endpoint, ...]),
            ports=msgspec.convert(told["meta"].get("ports", ()), tuple[PortMapping, ...]),
        )
        ends = Deadline(meta["expires_ns"], meta.get("expires_boot", ""))
        options = replace(made.options, **ends._asdict())
        running = _running(replace(made, options=options), started)
        self._context.records.add(running, stored=False)

    def heard(self, exit_: dict[str, Any]) -> None:
        """Take in that one of these has ended, as the shim tells."""
        container_id = exit_["id"]
        ended, is_late = self._ended.pop(container_id), self._lives.ended(container_id)
        exit_ = {**exit_, "timed_out": is_late and exit_["signal"] == _SIGKILL}
        records = self._context.records
        if records.has(container_id):
            live = self._context.live(container_id)
            self._context.telemetry.ended(records.get(container_id), exit_)
            container = records.get(container_id)
            self._networks.returned(container, as_it_was=not live.altered)
            records.remove(container_id)
            self._context.forget(container_id)
            self._execs.forget_container(container_id)
            finished = Finished(exit_code=exit_["status"], error="")
            resolve(live.exits, finished)
            resolve(live.removals, finished)
        else:
            self._early[container_id] = exit_
        if (gone := self._gone.pop(container_id, None)) is not None:
            gone.set_result(None)
        ended(exit_)

    async def close(self, container_id: str) -> None:
        """End a sandbox, with all that runs in it; returns once it is gone."""
        if container_id not in self._ended:
            return
        gone = self._gone.get(container_id)
        if gone is None:
            gone = self._gone[container_id] = asyncio.get_running_loop().create_future()
            self.end(container_id)
        await asyncio.shield(gone)

    def end(self, container_id: str) -> None:
        """Have it end; no error where it has."""
        if container_id in self._ended:
            self._context.spawn(self._signal(container_id))

    async def _signal(self, container_id: str) -> None:
        try:
            message = {"op": "signal", "id": container_id, "signal": 9}
            await self._context.shim.request(message)
        except (WrongStateError, NotFoundError, UnavailableError):  # it has ended, with the shim
            pass

    def lost(self) -> None:
        """Take note that the shim is gone, and they with it."""
        self._networks.distrust()  # they end at once, but not before we are told
        for container_id in list(self._ended):
            self.heard({"id": container_id, "time_ns": time.time_ns(), **KILLED})


def _message(
    template: Container, command: Command, terms: Terms, container_id: str
) -> dict[str, Any]:
    """Return the shim's op "spawn"."""
    limits_s = [limit_s for limit_s in (terms.lifetime_s, command.limit_s) if limit_s]
    ends = after(min(limits_s)) if limits_s else Deadline()
    return {
        "op": "spawn",
        "id": container_id,
        "recipe": template.id,
        "name": template.options.hostname or short(container_id),
        "args": list(command.words),
        "env": list(command.environment),
        "folder": command.folder or template.options.working_dir or "/",
        "meta": {"owner": terms.owner, **ends._asdict()},
    }


def _described(
    template: Container, words: Sequence[str], container_id: str, owner: str
) -> Container:
    """Return the record of a sandbox that is to run."""
    return replace(
        template,
        id=container_id,
        name=short(container_id),
        options=replace(template.options, owner=owner, auto_remove=True),
        path=words[0] if words else "idle",
        args=tuple(words[1:]),
        recipe=template.id,
        log_path="",
    )


def _running(container: Container, started: dict[str, Any]) -> Container:
    """Return its record now that it runs, as the shim tells."""
    return replace(
        container,
        created_ns=started["time_ns"],
        started_ns=started["time_ns"],
        status=Status.RUNNING,
        pid=started["pid"],
        cgroup=started["cgroup"],
    )
