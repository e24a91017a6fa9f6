"""JSON without the json module gives what the json module gives."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.errors import CorruptError
from orlop.model import jsontext

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
        text = jsontext.dumps(value, indent=indent)
        assert json.loads(text) == value
        assert jsontext.loads(text) == value


@given(VALUES)
def test_what_json_writes_is_read(value: object) -> None:
    assert jsontext.loads(json.dumps(value)) == value
    assert jsontext.loads(json.dumps(value, indent=2).encode() + b"\r\n") == value


@given(VALUES)
def test_indented_text_is_that_of_the_json_module(value: object) -> None:
    assert jsontext.dumps(value, indent=4) == json.dumps(value, indent=4, ensure_ascii=False)


@pytest.mark.parametrize("text", ["", "{", "nul", "[1,]", "{}x", "<html>", "[" * 100_000])
def test_what_is_no_json_is_corrupt(text: str) -> None:
    with pytest.raises(CorruptError):
        jsontext.loads(text)


def test_json_module_stands_in_where_the_c_scanner_is_missing() -> None:
    program = (
        "import sys; sys.modules['_json'] = None\n"
        "from orlop.model import jsontext\n"
        "value = {'a': [1, None, 'é\\n']}\n"
        "assert jsontext.loads(jsontext.dumps(value)) == value"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
