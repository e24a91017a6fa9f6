"""What of a process's limits will not come about is known before there is a process."""

import resource
from pathlib import Path

import pytest

from orlop.kernel.capabilities import BIT
from orlop.runtime import allowance
from orlop.runtime.plan import Rlimit

SCORE = int(Path("/proc/self/oom_score_adj").read_text())
HIGHEST = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
ABOVE = Rlimit(resource.RLIMIT_NOFILE, 10, HIGHEST + 1)


@pytest.mark.parametrize("is_of_host", [True, False])
@pytest.mark.parametrize("capabilities", [0, 1 << BIT["CAP_SYS_RESOURCE"]])
def test_what_takes_the_hosts_capability_is_told(
    monkeypatch: pytest.MonkeyPatch, capabilities: int, *, is_of_host: bool
) -> None:
    monkeypatch.setattr(allowance, "capget", lambda: (capabilities, 0, 0))
    monkeypatch.setattr(allowance, "is_of_host", lambda: is_of_host)
    told = allowance.refused([ABOVE], -1000)
    if capabilities and is_of_host:
        assert told == []
    else:
        assert told == [
            f"process.rlimits: not ours to raise: RLIMIT_NOFILE (stays at {HIGHEST})",
            f"process.oomScoreAdj: not ours to lower: stays at {SCORE}",
        ]


def test_what_all_may_do_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "capget", lambda: (0, 0, 0))
    lower = Rlimit(resource.RLIMIT_NOFILE, 1, HIGHEST)
    assert allowance.refused([lower], 1000) == []
    assert allowance.refused([], None) == []


def test_no_limit_is_above_every_limit() -> None:
    assert allowance.higher(-1, 1 << 40)
    assert not allowance.higher(1 << 40, -1)
    assert not allowance.higher(-1, -1)
    assert allowance.higher(2, 1)
    assert not allowance.higher(1, 1)
