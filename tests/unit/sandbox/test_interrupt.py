"""An interrupt is heard whenever it comes, and by nobody else."""

import pytest

from orlop.sandbox.interrupt import Interrupt, InterruptedVerbError


def test_asked_before_the_block_it_is_not_entered() -> None:
    interrupt, ended = Interrupt(), list[str]()
    interrupt.ask()
    with pytest.raises(InterruptedVerbError), interrupt.ending(lambda: ended.append("first")):
        ended.append("entered")
    assert ended == []


def test_asked_in_the_block_it_ends_it_whatever_it_raises() -> None:
    interrupt, ended = Interrupt(), list[str]()

    def work() -> None:
        interrupt.ask()
        raise OSError("what was ended")

    with pytest.raises(InterruptedVerbError), interrupt.ending(lambda: ended.append("ended")):
        work()
    assert ended == ["ended"]


def test_asked_after_the_block_it_touches_nothing_of_it() -> None:
    interrupt, ended = Interrupt(), list[str]()
    with interrupt.ending(lambda: ended.append("ended")):
        pass
    interrupt.ask()
    assert ended == []
    with pytest.raises(InterruptedVerbError):
        interrupt.check()
