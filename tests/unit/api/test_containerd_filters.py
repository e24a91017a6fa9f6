"""containerd's filters and field masks."""

import pytest

from orlop.api.containerd.filters import matcher
from orlop.api.containerd.masks import masked_labels
from orlop.errors import InvalidArgumentError, UnsupportedError

_IMAGE = {"name": "busybox:1", "labels": {"a.b": "c", "empty": ""}, "caps": ["x", "y"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name==busybox:1",
        'name=="busybox:1"',
        "name!=other",
        "missing!=other",
        "name~=^busy.*1$",
        "name~=/box/",
        r"name~=|:\d|",
        'labels."a.b"==c',
        "labels.a.b==c",
        "name==busybox:1,labels.a.b~=c",
        "caps~=y",
    ],
)
def test_filters_match(text: str) -> None:
    assert matcher([text])(_IMAGE)


@pytest.mark.parametrize(
    "text",
    ["name==busybox", "name!=busybox:1", "missing", "labels.empty", "name,name==x", "labels.z~=c"],
)
def test_filters_do_not_match(text: str) -> None:
    assert not matcher([text])(_IMAGE)


def test_one_of_several_filters_has_to_match() -> None:
    assert matcher(["name==x", "caps"])(_IMAGE)
    assert not matcher(["name==x", "missing"])(_IMAGE)
    assert matcher([])(_IMAGE)


@pytest.mark.parametrize(
    "text", ["==a", "a=b", "a==", "a==b c", "a..b", 'a=="b', "a~=[", "a,", "9", "a" * 5000]
)
def test_wrong_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        matcher([text])


@pytest.mark.parametrize("text", ["a~=(b+)+", "a~=.*.*.*c"])
def test_expressions_that_could_take_long_are_refused(text: str) -> None:
    with pytest.raises(UnsupportedError):
        matcher([text])


@pytest.mark.parametrize(
    ("paths", "after"),
    [
        ([], {"c": "3"}),
        (["labels"], {"c": "3"}),
        (["labels.b"], {"a": "1"}),
        (["labels.c"], {"a": "1", "b": "2", "c": "3"}),
    ],
)
def test_masked_labels(paths: list[str], after: dict[str, str]) -> None:
    assert masked_labels({"a": "1", "b": "2"}, {"b": "", "c": "3"}, paths) == after


def test_other_fields_cannot_be_changed() -> None:
    with pytest.raises(InvalidArgumentError, match="'name'"):
        masked_labels({}, {}, ["name"])
