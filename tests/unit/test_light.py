"""What stands in for typing at run time does as typing's own."""

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orlop.model import light


class Light(light.NamedTuple):
    first: int
    second: str = "b"
    third: tuple[int, ...] = ()


if TYPE_CHECKING:
    Typing = Light
else:
    from typing import NamedTuple

    class Typing(NamedTuple):
        first: int
        second: str = "b"
        third: tuple[int, ...] = ()


BOTH = pytest.mark.parametrize("kind", [Light, Typing])


@BOTH
def test_items_have_names_and_defaults(kind: Any) -> None:
    value = kind(1, third=(2, 3))
    assert (value.first, value.second, value.third) == (1, "b", (2, 3))
    assert value == (1, "b", (2, 3))
    assert value._replace(second="c") == (1, "c", (2, 3))
    assert value._asdict() == {"first": 1, "second": "b", "third": (2, 3)}
    assert kind._fields == ("first", "second", "third")
    assert repr(value) == f"{kind.__name__}(first=1, second='b', third=(2, 3))"


@BOTH
def test_what_is_no_item_is_refused(kind: Any) -> None:
    for args, named in (((), {}), ((1, 2, 3, 4), {}), ((1,), {"none": 1}), ((1,), {"first": 1})):
        with pytest.raises(TypeError):
            kind(*args, **named)
    with pytest.raises((TypeError, ValueError)):
        kind(1)._replace(none=1)
    with pytest.raises(AttributeError):
        kind(1).first = 2
    with pytest.raises(AttributeError):
        kind(1).other = 2


@BOTH
def test_it_can_be_pickled(kind: Any) -> None:
    assert pickle.loads(pickle.dumps(kind(1))) == kind(1)


def test_it_can_be_matched() -> None:
    match Light(1, "x"):
        case Light(first, second, ()):
            assert (first, second) == (1, "x")
        case _:
            pytest.fail("no match")


def test_a_typed_dictionary_is_a_dictionary() -> None:
    class Keys(light.TypedDict, total=False):
        a: int

    assert Keys(a=1) == {"a": 1}
    made = light.TypedDict("made", {"class": str})
    assert made(**{"class": "x"}) == {"class": "x"}


def test_typing_is_not_imported() -> None:
    program = "import sys, orlop.model.light; sys.exit('typing' in sys.modules)"
    path = ":".join(entry for entry in sys.path if entry)
    subprocess.run([sys.executable, "-S", "-c", program], env={"PYTHONPATH": path}, check=True)
