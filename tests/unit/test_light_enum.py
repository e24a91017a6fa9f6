"""What stands in for enum, contextlib and functools at run time does as the originals."""

import contextlib
import enum
import functools
import operator
import pickle
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from orlop.model import light_context, light_enum


class LightBits(light_enum.IntFlag, boundary=light_enum.STRICT):
    ONE = 1
    TWO = 2
    BOTH = 3
    EIGHT = 8

    @property
    def twice(self) -> int:
        return self * 2


class EnumBits(enum.IntFlag, boundary=enum.STRICT):
    ONE = 1
    TWO = 2
    BOTH = 3
    EIGHT = 8

    @property
    def twice(self) -> int:
        return self * 2


class LightWords(light_enum.StrEnum):
    YES = "yes"
    NO = "no"


class EnumWords(enum.StrEnum):
    YES = "yes"
    NO = "no"


class LightNumbers(light_enum.IntEnum):
    NIL = 0
    SOME = 7


class EnumNumbers(enum.IntEnum):
    NIL = 0
    SOME = 7


PAIRS = [(LightBits, EnumBits), (LightWords, EnumWords), (LightNumbers, EnumNumbers)]
OPERATORS = [operator.or_, operator.and_, operator.xor, operator.contains, operator.eq]
VALUES = [0, 1, 2, 3, 8, 9, 11]


@pytest.mark.parametrize(("light", "original"), PAIRS)
def test_members_are_the_same_objects_by_name_and_by_value(light: Any, original: Any) -> None:
    assert dict(light.__members__) == {n: m.value for n, m in original.__members__.items()}
    assert len(light.__members__) == len(original.__members__)
    for name in original.__members__:
        member, like = light[name], original[name]
        assert member is getattr(light, name) is light(like.value)
        assert (member.name, member.value, str(member), f"{member}", f"{member:>5}") == (
            *(like.name, like.value, str(like), f"{like}", f"{like:>5}"),
        )
        assert isinstance(member, light)
        assert pickle.loads(pickle.dumps(member)) is member
        assert {member: 1}[like.value] == 1
    for wrong in (99, -1, "none", None):
        with pytest.raises(ValueError, match=str(wrong)):
            light(wrong)
    with pytest.raises(KeyError):
        light["NONE"]


@pytest.mark.parametrize(("one", "other"), [*product(VALUES, VALUES)])
def test_flags_combine_as_enums(one: int, other: int) -> None:
    for combine in OPERATORS:
        ours = combine(LightBits(one), LightBits(other))
        assert int(ours) == int(combine(EnumBits(one), EnumBits(other)))
    assert int(~LightBits(one)) == int(~EnumBits(one))
    assert LightBits(one) | LightBits(other) is LightBits(one | other)
    assert pickle.loads(pickle.dumps(LightBits(one))) is LightBits(one)
    assert LightBits(one).twice == EnumBits(one).twice


@pytest.mark.parametrize("kind", [LightBits, EnumBits])
def test_bits_of_others_are_refused(kind: Any) -> None:
    for wrong in (4, 16, 7, -1):
        with pytest.raises(ValueError, match=str(wrong)):
            kind(wrong)
    with pytest.raises(ValueError, match="5"):
        kind.ONE | 4


@pytest.mark.parametrize("module", [light_context, contextlib])
def test_what_is_to_be_done_at_the_end_is_done_last_first(module: Any) -> None:
    done: list[object] = []

    @module.contextmanager  # type: ignore[untyped-decorator]  # of either module
    def context(name: str) -> Iterator[str]:
        done.append(f"in {name}")
        try:
            yield name
        except KeyError as error:
            done.append(error)
        done.append(f"out {name}")

    with module.ExitStack() as stack:
        stack.callback(done.append, "first")
        assert stack.enter_context(context("a")) == "a"
        stack.callback(done.append, "last")
        raise (failure := KeyError("x"))
    assert done == ["in a", "last", failure, "out a", "first"]

    done.clear()
    with module.ExitStack() as stack:
        stack.callback(done.append, "moved")
        kept = stack.pop_all()
    assert done == []
    kept.close()
    kept.close()
    assert done == ["moved"]

    def both_fail() -> None:
        with module.ExitStack() as stack:
            stack.callback(done.append, "all the same")
            stack.callback(int, "second")
            raise KeyError("first")

    with pytest.raises(ValueError, match="second") as caught:
        both_fail()
    assert isinstance(caught.value.__context__, KeyError)
    assert done[-1] == "all the same"


@pytest.mark.parametrize("module", [light_context, contextlib])
def test_errors_pass_through_a_context(module: Any) -> None:
    @module.contextmanager  # type: ignore[untyped-decorator]  # of either module
    def context() -> Iterator[None]:
        try:
            yield
        finally:
            done.append("left")

    done: list[str] = []
    error = OSError("x")
    with pytest.raises(OSError, match="x") as caught, context():
        raise error
    assert caught.value is error
    assert done == ["left"]
    with module.suppress(OSError, KeyError):
        raise FileNotFoundError
    with module.suppress():
        pass
    with pytest.raises(ValueError, match="y"), module.suppress(OSError):
        raise ValueError("y")


@pytest.mark.parametrize("module", [light_context, functools])
def test_calls_are_remembered(module: Any) -> None:
    calls: list[int] = []

    @module.cache  # type: ignore[untyped-decorator]  # of either module
    def twice(number: int) -> int:
        calls.append(number)
        return number * 2

    assert [twice(2), twice(2), twice(3)] == [4, 4, 6]
    twice.cache_clear()
    assert twice(2) == 4
    assert calls == [2, 3, 2]
    assert module.partial(pow, 2)(5) == 32
