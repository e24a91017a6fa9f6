"""The shape of config.json says of every field what oci.py says, and refuses all else by name."""

import copy
import json
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from orlop.errors import InvalidArgumentError
from orlop.model import oci
from orlop.model.light import TypedDict
from orlop.model.oci_shape import CONFIG, check
from orlop.runtime.seccomp_default import profile
from tests.integration.runtime.box import config


def assert_same(shape: Any, kind: Any, name: str) -> None:
    """Compare a shape with a type of oci.py, field by field."""
    if isinstance(kind, type) and issubclass(kind, TypedDict):  # type: ignore[arg-type] # a class
        hints = get_type_hints(kind)
        names = {key.removesuffix("!") for key in shape}
        # One type there is two shapes here: of weights, and of rates.
        assert names < set(hints) if kind is oci.BlockDevice else names == set(hints), name
        for key, part in shape.items():
            assert_same(part, hints[key.removesuffix("!")], f"{name}.{key}")
    elif get_origin(kind) is list:
        assert_same(shape[0], get_args(kind)[0], f"{name}[]")
    elif get_origin(kind) is dict:
        assert_same(shape["*"], get_args(kind)[1], f"{name}.*")
    else:
        assert (int if isinstance(shape, tuple) else shape) is kind, name


def test_the_shape_has_the_fields_and_types_of_the_model() -> None:
    assert_same(CONFIG, oci.Config, "config")


def test_what_we_make_ourselves_fits() -> None:
    value: Any = config()
    value["linux"]["seccomp"] = profile()
    before = copy.deepcopy(value)
    check(value, CONFIG)
    assert value == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "the configuration is to be an object, not a list"),
        ('{"process": 1}', "process is to be an object, not 1"),
        ('{"process": {"args": "sh"}}', "process.args is to be a list, not a string"),
        ('{"process": {"args": ["sh", 1]}}', "process.args[1] is to be a string, not 1"),
        ('{"process": {"args": [null]}}', "process.args[0] is to be a string, not none"),
        (
            '{"process": {"user": {"uid": true}}}',
            "process.user.uid is to be an integer from 0 to 4294967295, not true",
        ),
        (
            '{"process": {"user": {"uid": 1.0}}}',
            "process.user.uid is to be an integer from 0 to 4294967295, not 1.0",
        ),
        (
            '{"process": {"oomScoreAdj": 1e999}}',
            "process.oomScoreAdj is to be an integer from -1000 to 1000, not inf",
        ),
        ('{"process": {"terminal": 0}}', "process.terminal is to be true or false, not 0"),
        ('{"mounts": [{"type": "proc"}]}', "mounts[0].destination is missing"),
        ('{"hostname": "a\\u0000b"}', "hostname holds a NUL character"),
        ('{"hostname": "\\ud800"}', "hostname is no text: half of a surrogate pair"),
        ('{"annotations": {"a": 1}}', "annotations.a is to be a string, not 1"),
        ('{"annotations": {"\\u0000": "1"}}', "a name in annotations holds a NUL character"),
        ('{"process": {"env": ["a", "\\u0000"]}}', "process.env[1] holds a NUL character"),
        (
            '{"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 0}]}}',
            "process.rlimits[0].hard is missing",
        ),
    ],
)
def test_what_does_not_fit_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check(json.loads(text), CONFIG)
    assert str(caught.value) == message


def test_null_is_what_is_not_there_and_unknown_fields_are_ignored() -> None:
    value = {"process": None, "future": [None], "linux": {"seccomp": None, "sysctl": {"a": None}}}
    check(value, CONFIG)
    assert value == {"future": [None], "linux": {"sysctl": {}}}
