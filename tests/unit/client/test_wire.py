"""JSON without the json module gives what the json module gives."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.client import wire
from orlop.errors import CorruptError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back_by_both(value: object) -> None:
    for indent in (None, 4):
        text = wire.dumps(value, indent=indent)
        assert json.loads(text) == value
        assert wire.loads(text) == value


@given(VALUES)
def test_what_json_writes_is_read(value: object) -> None:
    assert wire.loads(json.dumps(value)) == value
    assert wire.loads(json.dumps(value, indent=2).encode() + b"\r\n") == value


@given(VALUES)
def test_indented_text_is_that_of_the_json_module(value: object) -> None:
    assert wire.dumps(value, indent=4) == json.dumps(value, indent=4, ensure_ascii=False)


@pytest.mark.parametrize("text", ["", "{", "nul", "[1,]", "{}x", "<html>", "[" * 100_000])
def test_what_is_no_json_is_corrupt(text: str) -> None:
    with pytest.raises(CorruptError):
        wire.loads(text)


def test_json_module_stands_in_where_the_c_scanner_is_missing() -> None:
    program = (
        "import sys; sys.modules['_json'] = None\n"
        "from orlop.client import wire\n"
        "assert wire.loads(wire.dumps({'a': [1, None, 'é\\n']})) == {'a': [1, None, 'é\\n']}"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
