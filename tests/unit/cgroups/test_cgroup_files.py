import errno
from pathlib import Path

import pytest

from orlop.errors import (
    InvalidArgumentError,
    OrlopError,
    PermissionDeniedError,
    UnsupportedError,
    WrongStateError,
)
from orlop.runtime import cgroups
from orlop.runtime.cgroups import v1_limits, v2_limits, v2_statistics
from orlop.runtime.cgroups.files import apply, read_number, read_table, refusal
from orlop.runtime.cgroups.interface import Write
from orlop.runtime.cgroups.layout import Hierarchy, Layout


def test_where_the_kernel_counts_no_swap_the_memory_limit_stands_alone(tmp_path: Path) -> None:
    for files, limit in (
        (v1_limits.files, "memory.limit_in_bytes"),
        (v2_limits.files, "memory.max"),
    ):
        (tmp_path / limit).touch()
        for write in files({"memory": {"limit": 100, "swap": 200}}):
            apply(str(tmp_path), write)
        assert (tmp_path / limit).read_text() == "100"


def test_a_limit_without_its_file_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"cpu\.idle"):
        apply(str(tmp_path), Write("cpu", "cpu.idle", "1", "cpu.idle"))


def test_the_file_that_there_is_gets_the_value(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    apply(str(tmp_path), Write("x", "a", "1", "f", Write("x", "b", "2", "f")))
    assert (tmp_path / "b").read_text() == "2"


@pytest.mark.parametrize(
    ("number", "field", "kind"),
    [
        (errno.EINVAL, "cpu.quota", InvalidArgumentError),
        (errno.ERANGE, "cpu.cpus", InvalidArgumentError),
        (errno.EBUSY, "memory.limit", WrongStateError),
        (errno.EACCES, "cpu.cpus", PermissionDeniedError),
        (errno.ENODEV, "blockIO.weightDevice", InvalidArgumentError),
        (errno.EOPNOTSUPP, "memory.kernel", UnsupportedError),
    ],
)
def test_a_refusal_names_the_field(number: int, field: str, kind: type[OrlopError]) -> None:
    error = refusal(Write("c", "c.file", "7", field), OSError(number, "no"))
    assert type(error) is kind
    assert field in str(error)


def test_words_and_missing_files_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "seven").write_text("7\n")
    assert read_number(str(tmp_path / "max"), -1) == -1
    assert read_number(str(tmp_path / "seven")) == 7
    assert read_number(str(tmp_path / "missing"), 3) == 3


def test_a_table_leaves_out_what_is_no_counter(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("usage 12\nodd\n\nname x\n")
    assert read_table(str(tmp_path / "stat")) == {"usage": 12}


def test_an_update_of_v2_reads_what_is_first(tmp_path: Path) -> None:
    host = Hierarchy(str(tmp_path), "/", frozenset({"memory", "cpu"}))
    folder = tmp_path / "one"
    folder.mkdir()
    for name, text in (("memory.max", "1000\n"), ("memory.current", "600\n"),
                       ("memory.swap.max", "max\n")):  # fmt: skip
        (folder / name).write_text(text)
    cgroup = cgroups.open("/one", layout=Layout((), host))
    cgroup.update({"memory": {"swap": 1500}})
    assert (folder / "memory.swap.max").read_text().startswith("500")
    with pytest.raises(WrongStateError, match=r"memory\.limit 500"):
        cgroup.update({"memory": {"limit": 500, "checkBeforeUpdate": True}})
    cgroup.update({"memory": {"limit": 700, "checkBeforeUpdate": True}})
    assert (folder / "memory.max").read_text().startswith("700")


def test_load_of_the_unified_hierarchy_is_of_few_files(tmp_path: Path) -> None:
    assert v2_statistics.load(str(tmp_path)) == (-1, -1, -1, -1)
    for name, text in (
        ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
        ("memory.current", "9000"),
        ("memory.stat", "anon 1000\ninactive_file 4000\n"),
        ("memory.max", "max"),
        ("pids.current", "3"),
    ):
        (tmp_path / name).write_text(f"{text}\n")
    assert v2_statistics.load(str(tmp_path)) == (1_500_000, 5000, -1, 3)
    (tmp_path / "memory.max").write_text("65536\n")
    assert v2_statistics.load(str(tmp_path)).memory_limit_bytes == 65536
