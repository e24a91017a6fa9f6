"""From the engine's values to the shapes and words of Docker's API."""

import stat
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from orlop.api.docker.archive import go_mode
from orlop.api.docker.attach import frame
from orlop.api.docker.lines import render_progress
from orlop.api.docker.render_container import render_container, render_summary, status_words
from orlop.api.docker.render_image import render_image
from orlop.api.docker.times import parse_time, rfc3339, rfc3339_padded, span
from orlop.engine.answers import ImageRecord, Progress
from orlop.errors import InvalidArgumentError
from orlop.model.container import Container, ContainerOptions, HealthState, Status
from orlop.model.image import ImageConfig, RootFS

SECOND = 1_000_000_000


def container(status: Status, *, health: HealthState | None = None) -> Container:
    return Container(
        id="ab" * 32,
        name="web",
        options=ContainerOptions(image="x", command=("sleep", "9")),
        image="sha256:" + "0" * 64,
        image_name="x:latest",
        created_ns=1_700_000_000 * SECOND,
        path="sleep",
        args=("9",),
        status=status,
        started_ns=1_700_000_100 * SECOND,
        finished_ns=1_700_000_200 * SECOND,
        exit_code=3,
        health=health,
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (47 * 3600, "47 hours"),
        (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"),
        (90 * 86400, "3 months"),
        (800 * 86400, "2 years"),
        (-5, "Less than a second"),
    ],
)
def test_time_spans_are_said_as_docker_says_them(seconds: int, words: str) -> None:
    assert span(seconds * SECOND) == words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.CREATED, "Created"),
        (Status.RUNNING, "Up 3 minutes"),
        (Status.PAUSED, "Up 3 minutes (Paused)"),
        (Status.EXITED, "Exited (3) 2 minutes ago"),
        (Status.RESTARTING, "Restarting (3) 2 minutes ago"),
        (Status.REMOVING, "Removal In Progress"),
        (Status.DEAD, "Dead"),
    ],
)
def test_each_status_has_its_words(status: Status, words: str) -> None:
    assert status_words(container(status), 1_700_000_320 * SECOND) == words


def test_health_is_part_of_the_status_words() -> None:
    starting = container(Status.RUNNING, health=HealthState())
    assert status_words(starting, 1_700_000_105 * SECOND) == "Up 5 seconds (health: starting)"


def test_summary_has_the_fields_that_clients_print() -> None:
    shape = render_summary(container(Status.EXITED), volumes=Path("/v"), networks={})
    assert shape["Names"] == ["/web"]
    assert shape["Command"] == "sleep 9"
    assert shape["Created"] == 1_700_000_000
    assert shape["State"] == "exited"


def test_words_with_spaces_are_quoted_in_a_listing() -> None:
    shown = replace(container(Status.RUNNING), path="sh", args=("-c", "exit 3", "x"))
    summary = render_summary(shown, volumes=Path("/v"), networks={})
    assert summary["Command"] == "sh -c 'exit 3' x"


def test_state_of_a_paused_container_is_running_and_paused() -> None:
    state = render_container(container(Status.PAUSED), volumes=Path("/v"), networks={})["State"]
    assert (state["Running"], state["Paused"], state["Status"]) == (True, True, "paused")


def test_times_are_written_as_go_writes_them() -> None:
    assert rfc3339(0) == "0001-01-01T00:00:00Z"
    assert rfc3339(1_700_000_000 * SECOND + 120_000_000) == "2023-11-14T22:13:20.12Z"
    assert rfc3339_padded(1_700_000_000 * SECOND + 5) == "2023-11-14T22:13:20.000000005Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("1700000000", 1_700_000_000 * SECOND),
        ("1700000000.000000005", 1_700_000_000 * SECOND + 5),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * SECOND),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000 * SECOND + SECOND // 2),
        ("2023-11-14", 1_699_920_000 * SECOND),
        ("1m30s", 910 * SECOND),
    ],
)
def test_times_are_read_in_all_their_spellings(
    text: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1000 * SECOND)
    assert parse_time(text, "since") == expected


@pytest.mark.parametrize("text", ["yesterday", "2023-13-45", "1x"])
def test_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="parameter since"):
        parse_time(text, "since")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("2025-01-02T03:04:05.123456789Z", "2025-01-02T03:04:05.123456789Z"),
        ("2025-01-02T03:04:05.1200+02:00", "2025-01-02T03:04:05.12+02:00"),
        ("2025-01-02T03:04:05.000Z", "2025-01-02T03:04:05Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("", ""),
        ("soon", ""),
    ],
)
def test_an_image_shows_its_time_to_the_nanosecond(written: str, shown: str) -> None:
    config = ImageConfig(created=written, rootfs=RootFS("layers", ()))
    record = ImageRecord(id="sha256:" + "0" * 64, manifest=None, config=config)
    assert render_image(record)["Created"] == shown


def test_file_modes_are_translated_to_gos() -> None:
    assert go_mode(stat.S_IFREG | 0o644) == 0o644
    assert go_mode(stat.S_IFDIR | 0o755) == 1 << 31 | 0o755
    assert go_mode(stat.S_IFREG | stat.S_ISUID | 0o755) == 1 << 23 | 0o755
    assert go_mode(stat.S_IFLNK | 0o777) == 1 << 27 | 0o777
    assert go_mode(stat.S_IFCHR | 0o666) == 1 << 26 | 1 << 21 | 0o666


def test_output_frames_have_stream_and_length_in_front() -> None:
    assert frame("stderr", b"abc") == b"\x02\0\0\0\0\0\0\x03abc"


def test_progress_has_the_shape_that_bars_are_drawn_from() -> None:
    progress = Progress(status="Downloading", id="abc", current=5, total=10)
    assert render_progress(progress) == {
        "status": "Downloading",
        "id": "abc",
        "progressDetail": {"current": 5, "total": 10},
    }
