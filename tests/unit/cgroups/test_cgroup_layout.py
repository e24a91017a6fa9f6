from pathlib import Path

import pytest

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.runtime import cgroups
from orlop.runtime.cgroups.layout import Hierarchy, Layout, counts_swap, read_layout

CO_MOUNTED = """\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,size=4096k,mode=755
31 30 0:27 / {unified} rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:6 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:7 - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 30 0:30 / /elsewhere rw - cgroup cgroup rw,memory
"""


def layout_of(tmp_path: Path, mountinfo: str) -> Layout:
    unified = tmp_path / "unified"
    unified.mkdir()
    (unified / "cgroup.controllers").write_text("hugetlb misc\n")
    file = tmp_path / "mountinfo"
    file.write_text(mountinfo.format(unified=unified))
    return read_layout(str(file))


def test_hybrid_with_co_mounted_and_named_hierarchies_is_understood(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, CO_MOUNTED)
    assert layout.mode == "hybrid"
    assert [hierarchy.controllers for hierarchy in layout.v1] == [
        {"name=systemd"},
        {"cpu", "cpuacct"},
        {"memory"},
    ]
    assert layout.unified is not None
    assert layout.unified.controllers == {"hugetlb", "misc"}


def test_a_hierarchy_mounted_twice_counts_once_with_its_own_root(tmp_path: Path) -> None:
    memory = layout_of(tmp_path, CO_MOUNTED).v1[-1]
    assert (memory.mountpoint, memory.root) == ("/sys/fs/cgroup/memory", "/docker/abc")


def test_a_host_with_the_unified_hierarchy_alone_is_v2(tmp_path: Path) -> None:
    line = "31 30 0:27 / {unified} rw - cgroup2 cgroup2 rw,memory_recursiveprot\n"
    assert layout_of(tmp_path, line).mode == "v2"


def test_a_blank_in_a_mount_point_is_unescaped(tmp_path: Path) -> None:
    line = "31 30 0:27 / /my\\040cgroups rw - cgroup cgroup rw,pids\n"
    assert layout_of(tmp_path, line).v1[0].mountpoint == "/my cgroups"


@pytest.mark.parametrize("path", ["", "/", "/a/../..", "..", "./."])
def test_a_path_that_names_no_cgroup_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError):
        cgroups.open(path, layout=Layout((), None))


def test_systemds_form_of_a_path_is_said_to_be_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="systemd"):
        cgroups.open("system.slice:orlop:abc", layout=Layout((), None))


def test_whether_swap_is_counted_is_read_from_the_files_there_are(tmp_path: Path) -> None:
    memory = frozenset({"memory"})
    old = Layout((Hierarchy(str(tmp_path), "/", memory),), None)
    assert not counts_swap(old)
    (tmp_path / "memory.memsw.limit_in_bytes").touch()
    assert counts_swap(old)
    new = Layout((), Hierarchy(str(tmp_path), "/", memory))
    (tmp_path / "group").mkdir()
    (tmp_path / "group/memory.max").touch()
    assert not counts_swap(new)
    (tmp_path / "group/memory.swap.max").touch()
    assert counts_swap(new)
