"""The driver journald, against a socket that reads as systemd's journal does."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.logdrivers import journald
from orlop.logdrivers.driver import Message, Part
from orlop.logdrivers.wire import About
from tests.journal import fields

ABOUT: About = {
    "id": "ab" * 32,
    "name": "web",
    "image": "busybox",
    "tag": "a tag",
    "attributes": {"com.example.team": "red", "_x": "two\nlines", "...": "no name"},
}


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "socket")
    monkeypatch.setattr(journald, "PATH", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(20)
        yield sock


def test_entry_has_the_fields_that_docker_gives_it(listener: socket.socket) -> None:
    driver = journald.Journald({}, ABOUT)
    driver.send(Message("stderr", 1_700_000_000_000_000_001, b"hello"))
    driver.close()
    assert fields(listener.recv(1 << 20)) == {
        "MESSAGE": b"hello",
        "PRIORITY": b"3",
        "CONTAINER_ID": b"abababababab",
        "CONTAINER_ID_FULL": b"ab" * 32,
        "CONTAINER_NAME": b"web",
        "CONTAINER_TAG": b"a tag",
        "SYSLOG_IDENTIFIER": b"a tag",
        "IMAGE_NAME": b"busybox",
        "COM_EXAMPLE_TEAM": b"red",
        "X": b"two\nlines",
        "SYSLOG_TIMESTAMP": b"2023-11-14T22:13:20.000000001Z",
    }


def test_part_of_a_long_line_says_which(listener: socket.socket) -> None:
    driver = journald.Journald({}, ABOUT)
    driver.send(Message("stdout", 0, b"x", Part("7", 3, last=True)))
    driver.close()
    found = fields(listener.recv(1 << 20))
    assert found["PRIORITY"] == b"6"
    assert found["CONTAINER_PARTIAL_MESSAGE"] == b"true"
    assert found["CONTAINER_PARTIAL_ID"] == b"7"
    assert found["CONTAINER_PARTIAL_ORDINAL"] == b"3"
    assert found["CONTAINER_PARTIAL_LAST"] == b"true"


def test_entry_too_large_for_a_datagram_comes_as_a_file(listener: socket.socket) -> None:
    label = "y" * (1 << 20)
    driver = journald.Journald({}, {**ABOUT, "attributes": {"large": label}})
    driver.send(Message("stdout", 0, b"hello"))
    driver.close()
    data, controls, _, _ = listener.recvmsg(1, socket.CMSG_SPACE(4))
    ((_, _, rights),) = controls
    (fd,) = struct.unpack("i", rights)
    with open(fd, "rb") as file:
        found = fields(file.read()) if not file.seek(0) else {}
    assert data == b""
    assert found["LARGE"] == label.encode()
    assert found["MESSAGE"] == b"hello"


def test_host_without_journald_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "PATH", str(tmp_path / "nothing"))
    driver = journald.Journald({}, ABOUT)
    with pytest.raises(FileNotFoundError):
        driver.open()
    assert os.listdir(tmp_path) == []
