"""Signals by name or number."""

import signal

import pytest

from orlop.model.signals import signal_number


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("9", 9),
        ("RTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", 63),
        ("64", 64),
        ("0", 0),  # which only asks whether it is there
    ],
)
def test_a_signal_is_a_name_or_a_number(word: str, number: int) -> None:
    assert signal_number(word) == number


@pytest.mark.parametrize(
    "word",
    [
        "",
        "65",
        "-9",
        "KILL+1000",
        "SIG",
        "SIG_IGN",
        "_DFL",
        "٩",
        "9.0",
        "KILL 9",
        "RTMAX+1",
        "RTMAX-40",
        "RTMIN-1",
        "KILL+1",
    ],
)
def test_what_is_no_signal_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="unknown signal"):
        signal_number(word)
