"""What the log tells of private addresses, however many there are."""

import pytest

from orlop.engine.networks.withheld import Report
from orlop.network.egress.learned import Withheld


def test_each_address_is_told_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    report = Report(lambda: now)
    one, other = Withheld("a.example", "10.2.0.7:443"), Withheld("a.example", "10.2.0.8:443")
    report.of("c", [one])
    now = 2.0
    report.of("c", [one])
    report.of("c", [one, other])
    assert [record.__dict__["hint"] for record in caplog.records] == [
        "if it is meant, list too: 10.2.0.7:443",
        "if it is meant, list too: 10.2.0.8:443",
    ]
    now = 3601.0
    report.of("c", [one])
    assert len(caplog.records) == 3


def test_who_resolves_much_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    report = Report(lambda: now)
    for number in range(1000):
        now = number / 100
        report.of("c", [Withheld("a.example", f"10.2.{number // 250}.{number % 250}")])
    assert len(caplog.records) == 10
    assert len(report._told) <= 256
