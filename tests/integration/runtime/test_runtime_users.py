"""Users: their homes by the files of the image, and which programs they may run."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runtime.box import Box


@pytest.mark.parametrize(
    ("name", "uid", "gid", "groups", "home"),
    [
        ("alice", "1000", "1001", "50 1001", "/home/a"),
        ("1000", "1000", "1001", "50 1001", "/home/a"),
        ("alice:staff", "1000", "50", "50", "/home/a"),
        ("77", "77", "0", "0", "/"),
        ("77:88", "77", "88", "88", "/"),
        (":audio", "0", "29", "29", "/root"),
    ],
)
def test_names_are_looked_up_in_the_image(
    box: Box, name: str, uid: str, gid: str, groups: str, home: str
) -> None:
    box.process["user"] = {"username": name}
    output = box.sh("cat /proc/self/status; echo HOME:$HOME")
    lines = dict(line.split(":", 1) for line in output.splitlines())
    assert lines["Uid"].split()[0] == uid
    assert lines["Gid"].split()[0] == gid
    assert lines["Groups"].strip() == groups
    assert lines["HOME"] == home


@pytest.mark.parametrize(
    ("env", "home"),
    [
        (["HOME=/first", "HOME=/last"], "/last"),
        (["HOME=/first", "HOME="], "/home/a"),
        (["HOME=", "HOME=/last"], "/last"),
        ([], "/home/a"),
    ],
)
@pytest.mark.parametrize("user", [{"username": "alice"}, {"uid": 1000}], ids=["name", "number"])
def test_the_last_home_counts_and_an_empty_one_is_that_of_passwd(
    box: Box, env: list[str], home: str, user: dict[str, Any]
) -> None:
    box.process["user"] = user
    box.process["env"] += env
    running = box.sleeping()
    told = f"HOME={home}"
    assert told in Path(f"/proc/{running.pid}/environ").read_text().split("\0")
    assert told in box.exec(running, "env").output.splitlines()


@pytest.fixture
def owned(box: Box) -> Box:
    """Return a box with the program /own/id of user 7, which nobody else may run or reach."""
    (box.lower / "own").mkdir()
    shutil.copy(box.lower / "bin/busybox", box.lower / "own/id")
    for path in ("own/id", "own"):
        os.chown(box.lower / path, 7, 7)
        (box.lower / path).chmod(0o700)
    box.process["env"] = ["PATH=/bin:/own"]
    (box.lower / "bin/id").unlink()
    return box


@pytest.mark.parametrize("name", ["/own/id", "id"])
def test_a_user_who_may_override_modes_runs_any_program(owned: Box, name: str) -> None:
    kinds = ("bounding", "permitted", "effective", "inheritable", "ambient")
    owned.process["capabilities"] = {key: ["CAP_DAC_OVERRIDE"] for key in kinds}
    owned.process["user"] = {"uid": 1000, "gid": 1000}
    assert owned.run(name, "-u").output == "1000\n"
    running = owned.sleeping()
    assert owned.exec(running, name, "-u").output == "1000\n"
