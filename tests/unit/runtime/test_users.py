"""Users as people write them, against files as images have them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orlop.kernel.paths import open_in_root
from orlop.runtime import users
from orlop.runtime.failure import StepError
from orlop.runtime.users import MOST_ID, group_id, resolve

PASSWD = """\
# a comment
root:x:0:0:root:/root:/bin/sh
alice:x:1000:1001::/home/alice:/bin/sh
huge:x:4294967296:0::/:/bin/sh
minus:x:-1:0::/:/bin/sh
broken:x:5
+nis::::::
nohome:x:7:7:::
"""
GROUP = "root:x:0:\nstaff:x:50:alice,bob\nwide:x:2147483648:alice\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("root")
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text(PASSWD)
    (folder / "etc/group").write_text(GROUP)
    fd = os.open(folder, os.O_PATH)
    yield fd
    os.close(fd)


def test_names_and_numbers_are_found(root: int) -> None:
    assert resolve(root, "alice") == (1000, 1001, (1001, 50), "/home/alice")
    assert resolve(root, "1000") == (1000, 1001, (1001, 50), "/home/alice")
    assert resolve(root, "nohome").home == "/"
    assert resolve(root, "alice:staff") == (1000, 50, (50,), "/home/alice")
    assert group_id(root, "staff") == 50


@pytest.mark.parametrize("text", ["huge", "minus", "broken", "+nis", "bob", "x", "wide"])
def test_what_is_nobody_is_refused(root: int, text: str) -> None:
    with pytest.raises(StepError):
        resolve(root, text)


@given(st.text(st.characters(codec="utf-8"), max_size=30) | st.integers().map(str))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_digits_in_range_are_ids(root: int, text: str) -> None:
    try:
        found = resolve(root, text)
    except StepError:
        return
    user = text.partition(":")[0]
    known = {"root": 0, "alice": 1000, "nohome": 7, "": 0}
    assert 0 <= found.uid <= MOST_ID
    assert 0 <= found.gid <= MOST_ID
    assert found.uid == known.get(user, int(user) if user.isascii() and user.isdigit() else None)


def test_without_files_numbers_are_still_ids(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert resolve(fd, "12:34") == (12, 34, (34,), "/")
        with pytest.raises(StepError, match="unable to find user alice"):
            resolve(fd, "alice")
    finally:
        os.close(fd)


def test_what_is_no_file_in_place_of_passwd_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc" / "passwd")
    flags: list[int] = []

    def opened(root: int, path: str, how: int = os.O_PATH) -> int:
        flags.append(how)
        return open_in_root(root, path, how)

    monkeypatch.setattr(users, "open_in_root", opened)
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert users.home_of(root, 7) == "/"
    finally:
        os.close(root)
    assert set(flags) == {os.O_PATH}
