"""Devices of the bundle's own, and what is not theirs to replace."""

import os
import stat
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError, OrlopError
from tests.integration.runtime.box import Box

MAPPING = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
FULL = {"type": "c", "path": "/data/deep/full", "major": 1, "minor": 7, "fileMode": 0o620}


def test_devices_of_every_type_are_made_anywhere_with_mode_and_owner(box: Box) -> None:
    box.linux["devices"] = [
        {**FULL, "uid": 4, "gid": 5},
        {"type": "u", "path": "/dev/unbuffered", "major": 1, "minor": 3},
        {"type": "b", "path": "/dev/disk", "major": 7, "minor": 0, "fileMode": 0o60600},
        {"type": "p", "path": "/pipe", "fileMode": 0o600},
    ]
    names = "/data/deep/full /dev/unbuffered /dev/disk /pipe"
    assert box.sh(f"stat -c '%F %a %u %g %t:%T' {names}").splitlines() == [
        "character special file 620 4 5 1:7",
        "character special file 666 0 0 1:3",
        "block special file 600 0 0 7:0",
        "fifo 600 0 0 0:0",
    ]


def test_a_node_that_is_there_already_is_taken_if_it_is_the_device(box: Box) -> None:
    (box.lower / "data/deep").mkdir(parents=True)
    os.mknod(box.lower / "data/deep/full", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    box.linux["devices"] = [FULL]
    assert box.sh("stat -c '%a %t:%T' /data/deep/full") == "620 1:7\n"


@pytest.mark.parametrize("kind", ["file", "folder", "link", "device"])
def test_another_file_in_the_place_of_a_device_is_left_and_refused(box: Box, kind: str) -> None:
    place = box.lower / "data/deep/full"
    place.parent.mkdir(parents=True)
    if kind == "file":
        place.touch()
    elif kind == "folder":
        place.mkdir()
    elif kind == "link":
        place.symlink_to("/dev/null")
    else:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    box.linux["devices"] = [FULL]
    with pytest.raises(OrlopError, match="another file is already where device 'full'"):
        box.run("true")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "x"}, "type"),
        ({"path": "dev/x"}, "path"),
        ({"path": "/dev/.."}, "path"),
        ({"path": "/"}, "path"),
        ({"major": -1}, "major"),
        ({"minor": 1 << 20}, "minor"),
        ({"uid": 1 << 32}, "4294967296"),
        ({"fileMode": -1}, "fileMode"),
    ],
)
def test_a_device_that_cannot_be_is_refused_by_its_field(
    box: Box, change: dict[str, Any], field: str
) -> None:
    box.linux["devices"] = [FULL, {**FULL, **change}]
    with pytest.raises(InvalidArgumentError, match=rf"linux\.devices\[1\].*{field}"):
        box.run("true")


def test_a_user_namespace_is_shown_the_hosts_device_under_any_name(box: Box) -> None:
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = MAPPING
    box.linux["devices"] = [FULL, {"type": "p", "path": "/pipe"}]
    output = box.sh("stat -c '%t:%T' /data/deep/full; stat -c %F /pipe; echo > /dev/null")
    assert output.splitlines() == ["1:7", "fifo"]


def test_a_user_namespace_cannot_be_shown_a_device_that_the_host_has_not(box: Box) -> None:
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = MAPPING
    box.linux["devices"] = [{**FULL, "major": 4000, "minor": 1}]
    with pytest.raises(OrlopError, match="no device for '/data/deep/full'"):
        box.run("true")
