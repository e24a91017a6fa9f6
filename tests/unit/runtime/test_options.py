"""Mount options, from words to what the kernel takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.kernel.mount import MountAttr
from orlop.runtime.options import ATTRIBUTES, PROPAGATION, RECURSIVE_ATTRIBUTES, parse


def test_of_two_words_that_contradict_the_later_counts() -> None:
    assert parse(["ro", "rw"]).set_ == 0
    assert parse(["rw", "ro"]).set_ == MountAttr.RDONLY
    assert parse(["rro", "rrw"]).tree_clear == MountAttr.RDONLY


def test_a_word_for_the_tree_is_not_for_the_mount() -> None:
    options = parse(["rnosuid"])
    assert (options.set_, options.tree_set) == (0, MountAttr.NOSUID)


def test_other_words_go_to_the_file_system_in_order() -> None:
    assert parse(["size=64k", "nosuid", "mode=755", "newinstance", "defaults", ""]).filesystem == (
        ("size", "64k"),
        ("mode", "755"),
        ("newinstance", None),
    )


def test_a_value_may_hold_what_separates() -> None:
    assert parse(["lowerdir+=/a=b,c:d"]).filesystem == (("lowerdir+", "/a=b,c:d"),)


@pytest.mark.parametrize("word", [*ATTRIBUTES, *RECURSIVE_ATTRIBUTES, *PROPAGATION])
def test_a_word_we_know_never_reaches_the_file_system(word: str) -> None:
    assert parse([word]).filesystem == ()


@given(st.lists(st.sampled_from([*ATTRIBUTES, *RECURSIVE_ATTRIBUTES])))
def test_nothing_is_both_set_and_cleared_but_access_times(words: list[str]) -> None:
    options = parse(words)
    times = 0x70
    assert options.set_ & options.clear & ~times == 0
    assert options.tree_set & options.tree_clear & ~times == 0
