"""Op "restore": containers that go on where others were, as images of those have it.

Where the pid is in the record, the container is complete, and stands still. Before that
all of it goes with the helper that makes it, or with the connection that has asked for it;
after that it is a container like any other.
"""

import re
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from orlop.errors import OrlopError
from orlop.runtime.bundle import Bundle
from orlop.runtime.cgroups.interface import Cgroup
from orlop.runtime.start import make_cgroup
from orlop.shim.channel import Channel, Message, close_all
from orlop.shim.failure import failure
from orlop.shim.helper import Helper
from orlop.shim.loop import Loop, Timer
from orlop.shim.pipes import Pipes
from orlop.shim.process import Process
from orlop.shim.records import Record, Records, start_ticks
from orlop.shim.starts import Starts

_WITHIN_S = 60.0
_AGAIN_S = 0.005
_MOST_PAUSE_S = 0.5
_PATIENCE_S = 10.0
_DESCRIPTOR = re.compile(r"/proc/self/fd/(\d+)")


class _Restore:
    """One that is under way."""

    def __init__(self, process: Process, cgroup: Cgroup, asker: Channel, seq: int) -> None:
        self.process = process
        self.cgroup = cgroup
        self.asker = asker
        self.seq = seq
        self.helper: Helper | None = None
        self.limit = Timer(lambda: None)

    def answer(self, told: Message) -> None:
        """Answer who has asked for it: {"ok": …} or {"error": …}."""
        self.asker.send({"seq": self.seq, **told})


class Restores:
    """*begun* is called with each process that runs, *sweep* to reap orphans."""

    def __init__(
        self,
        loop: Loop,
        records: Records,
        starts: Starts,
        *,
        begun: Callable[[Process], None],
        sweep: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._records = records
        self._starts = starts
        self._begun = begun
        self._sweep = sweep
        self._restores: dict[str, _Restore] = {}

    @property
    def pids(self) -> set[int]:
        """Return those that are not orphans, whoever's they seem to be."""
        helpers = {one.helper.pid for one in self._restores.values() if one.helper is not None}
        return helpers | {one.process.record["pid"] for one in self._restores.values()}

    def knows(self, key: str) -> bool:
        """Whether that is being restored."""
        return key in self._restores

    def lost(self, channel: Channel) -> None:
        """End what was asked for over *channel*: nobody knows of it."""
        for one in self._restores.values():
            if one.asker is channel and one.helper is not None:
                one.helper.kill()

    def begin(self, key: str, message: Message, asker: Channel) -> None:
        """Restore from the folder that comes along last; the answer comes later."""
        from orlop.shim.imaging import restore  # rare

        *namespaces, images = message["fds"]
        record = Record(
            id=message["id"],
            pid=0,
            start_ticks=0,
            bundle=message["bundle"],
            cgroup="",
            io=message["io"],
            inodes={},
        )
        bundle = self._starts.bundle(message, record, namespaces)
        process = Process(key, record)
        with ExitStack() as ours, ExitStack() as undo:
            ours.callback(self._starts.layers.release)
            self._records.begin(key, record)
            undo.callback(self._records.end, key)
            pipes = Pipes(process.io, null=self._starts.null)
            undo.callback(pipes.close)
            process.cgroup = cgroup = make_cgroup(bundle, self._starts.ahead.cgroups)
            undo.callback(cgroup.remove)
            one = _Restore(process, cgroup, asker, message["seq"])
            one.helper = Helper(
                self._loop,
                partial(restore, bundle, cgroup, pipes.stdio, images),
                keep=[*pipes.stdio, *namespaces, images, *_descriptors(bundle)],
                on_message=partial(self._complete, one),
                on_end=partial(self._ended, one),
            )
            undo.pop_all()
        record["inodes"] = pipes.inodes
        pipes.close_theirs()
        process.fds = pipes.ours
        self._restores[key] = one
        one.limit = self._loop.later(_WITHIN_S, one.helper.kill)

    def _complete(self, one: _Restore, helper: Helper, message: Message, fds: list[int]) -> None:
        """Write it down, and let it run."""
        record = one.process.record
        one.process.pidfd = fds.pop()
        close_all(fds)
        record["pid"] = message["pid"]
        record["start_ticks"] = start_ticks(message["pid"])
        try:
            self._records.update(one.process.key, record)
        except OSError:
            traceback.print_exc()
            helper.kill()
            return
        helper.consent()

    def _ended(self, one: _Restore, outcome: Message) -> None:
        """Hand it over; the helper was its parent, and we are now."""
        one.limit.cancel()
        if "ok" not in outcome or one.asker.closed:
            gone = OrlopError(f"the restore of {one.process.key[:12]} was killed")
            told = outcome if "error" in outcome else {"error": failure(gone)}
            self._undo(one, told, since=time.monotonic())
            return
        del self._restores[one.process.key]
        self._begun(one.process)
        one.answer({"ok": {"pid": one.process.record["pid"], "time_ns": time.time_ns()}})

    def _undo(
        self, one: _Restore, told: Message, *, since: float, pause_s: float = _AGAIN_S
    ) -> None:
        """Leave nothing of it; what its helper was the parent of is ours to reap."""
        one.cgroup.kill()
        one.process.record["pid"] = 0  # an orphan like the others
        self._sweep()
        if not _removed(one.cgroup) and time.monotonic() < since + _PATIENCE_S:
            longer = min(2 * pause_s, _MOST_PAUSE_S)
            self._loop.later(pause_s, lambda: self._undo(one, told, since=since, pause_s=longer))
            return
        one.process.close()
        del self._restores[one.process.key]
        self._records.end(one.process.key)
        one.answer(told)


def _removed(cgroup: Cgroup) -> bool:
    if next(iter(cgroup.pids()), None) is not None:
        return False
    try:
        cgroup.remove(timeout_s=0)
    except (OSError, OrlopError) as error:
        return isinstance(error, FileNotFoundError)
    return True


def _descriptors(bundle: Bundle) -> list[int]:
    """Return those of ours that its root is made of."""
    text = " ".join(option for mount in bundle.rootfs for option in mount.options)
    return [int(number) for number in _DESCRIPTOR.findall(text)]
