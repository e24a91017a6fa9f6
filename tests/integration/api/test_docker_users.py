"""Which groups processes have, with the docker command: those of dockerd's processes."""

from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"
PASSWD = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"
GROUPS = "root:x:0:\naudio:x:29:root\nuser:x:1000:\nextra:x:2000:user\n"
pytestmark = pytest.mark.usefixtures("image")


@pytest.fixture
def users(tmp_path: Path) -> list[str]:
    """Options that give a container these users and groups."""
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUPS)
    return ["-v", f"{tmp_path}/passwd:/etc/passwd:ro", "-v", f"{tmp_path}/group:/etc/group:ro"]


def _groups(status: str) -> list[int]:
    line = next(line for line in status.splitlines() if line.startswith("Groups:"))
    return [int(word) for word in line.split()[1:]]


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ((), [0, 29]),
        (("--group-add", "7"), [0, 7, 29]),
        (("-u", "user"), [1000, 2000]),
        (("-u", "user:extra"), [2000]),
        (("-u", "77:88"), [88]),
    ],
)
def test_groups_are_the_primary_and_those_of_etc_group(
    engine: EngineProcess, users: list[str], options: tuple[str, ...], groups: list[int]
) -> None:
    words = ("run", "--rm", *users, *options, IMAGE, "cat", "/proc/self/status")
    assert sorted(_groups(engine.out(*words))) == groups


def test_exec_as_a_user_keeps_the_groups_added_to_the_container(
    engine: EngineProcess, users: list[str], name: str
) -> None:
    words = (*users, "--group-add", "7", "--name", name, IMAGE, "sleep", "1000")
    engine.docker("run", "-d", *words)
    status = ("cat", "/proc/self/status")
    assert sorted(_groups(engine.out("exec", name, *status))) == [0, 7, 29]
    assert sorted(_groups(engine.out("exec", "-u", "user", name, *status))) == [7, 1000, 2000]
