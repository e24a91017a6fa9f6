"""Limits that a process may not raise, and an OOM score that it may not lower, by itself.

Both need CAP_SYS_RESOURCE of the host, which root in a user namespace never has. The parent
tries; if it may not either, the container keeps the values it has, with a warning.
"""

from __future__ import annotations

import os
import resource

from orlop.kernel.capabilities import BIT, capget
from orlop.kernel.idmap import is_of_host
from orlop.model.light import TYPE_CHECKING, Callable, Iterable

if TYPE_CHECKING:
    from orlop.runtime.plan import Rlimit

_SYS_RESOURCE = 1 << BIT["CAP_SYS_RESOURCE"]


def grant(pid: int, rlimits: Iterable[Rlimit], score: int | None) -> list[str]:
    """Set limits and score of child *pid* that it may not set itself; return what failed.

    Call it while the child waits: the child sets its own limits later, and these stay.
    """

    def raise_to(number: int, hard: int) -> None:
        resource.prlimit(pid, number, (resource.getrlimit(number)[0], hard))

    def lower_to(score: int) -> None:
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write(str(score))

    return [*_kept_low(rlimits, raise_to), *_kept_high(pid, score, lower_to)]


def refused(rlimits: Iterable[Rlimit], score: int | None) -> list[str]:
    """Return what grant() would fail to set, as far as that is known before there is a child."""

    def ask(_: int, hard: int = 0) -> None:
        del hard
        if not (capget()[0] & _SYS_RESOURCE and is_of_host()):
            raise PermissionError

    return [*_kept_low(rlimits, ask), *_kept_high(os.getpid(), score, ask)]


def higher(one: int, other: int) -> bool:
    """Whether limit *one* is above *other*; -1 means no limit."""
    return other != -1 and (one == -1 or one > other)


def within(limit: Rlimit) -> Rlimit:
    """Return *limit* reduced to what may be set without raising our own."""
    _, highest = resource.getrlimit(limit.number)
    hard = highest if higher(limit.hard, highest) else limit.hard
    return limit._replace(soft=hard if higher(limit.soft, hard) else limit.soft, hard=hard)


def _kept_low(rlimits: Iterable[Rlimit], raise_to: Callable[[int, int], None]) -> list[str]:
    kept = []
    for number, _, hard in rlimits:
        _, highest = resource.getrlimit(number)
        if higher(hard, highest):
            try:
                raise_to(number, hard)
            except (PermissionError, ValueError):  # EPERM is PermissionError except for prlimit(2)
                kept.append(f"{_name(number)} (stays at {highest})")
            except ProcessLookupError:  # whoever waits for it will notice
                return []
    return [f"process.rlimits: not ours to raise: {', '.join(kept)}"] if kept else []


def _kept_high(pid: int, score: int | None, lower_to: Callable[[int], None]) -> list[str]:
    if score is None:
        return []
    try:
        with open(f"/proc/{pid}/oom_score_adj") as file:
            ours = int(file.read())
        if ours > score:
            lower_to(score)
    except PermissionError:
        return [f"process.oomScoreAdj: not ours to lower: stays at {ours}"]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return []


def _name(number: int) -> str:
    names = (name for name in dir(resource) if name.startswith("RLIMIT_"))
    return next(name for name in names if getattr(resource, name) == number)
