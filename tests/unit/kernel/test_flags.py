"""Our numbers are the kernel's."""

import enum
import re
from pathlib import Path

import pytest

from orlop.kernel import capabilities, process
from orlop.kernel.mount import FsConfig, MountAttr, MountFlag, MoveMount
from orlop.kernel.namespaces import Namespace
from orlop.kernel.paths import Resolve
from orlop.kernel.process import Clone

INCLUDE = Path("/usr/include/linux")
SPELLED: dict[tuple[type[enum.IntFlag], str], str] = {
    (Namespace, "MOUNT"): "NS"
}  # the first namespace got the whole word


def header(name: str) -> str:
    path = INCLUDE / name
    if not path.exists():
        pytest.skip("no kernel headers")
    return path.read_text()


def number(text: str) -> int:
    bit = re.fullmatch(r"\((\d+)<<(\d+)\)", text)
    if bit:
        return int(bit[1]) << int(bit[2])
    return int(text.removesuffix("ULL"), 0)


@pytest.mark.parametrize(
    ("flags", "name", "prefix"),
    [
        (MountAttr, "mount.h", "MOUNT_ATTR_"),
        (MountFlag, "mount.h", "MS_"),
        (MoveMount, "mount.h", "MOVE_MOUNT_"),
        (Namespace, "sched.h", "CLONE_NEW"),
        (Clone, "sched.h", "CLONE_"),
        (Resolve, "openat2.h", "RESOLVE_"),
    ],
)
def test_flags_match_the_kernel_header(flags: type[enum.IntFlag], name: str, prefix: str) -> None:
    found = dict(re.findall(rf"#define {prefix}(\w+)\s+([0-9A-Fx()<a-fUL]+)", header(name)))
    for member, flag in flags.__members__.items():
        assert flag == number(found[SPELLED.get((flags, member), member)]), member


def test_commands_of_fsconfig_match_the_kernel_header() -> None:
    found = dict(re.findall(r"FSCONFIG_(\w+)\s*=\s*(\d+)", header("mount.h")))
    for command in FsConfig:
        assert command == int(found[command.name])


def test_capabilities_match_the_kernel_header() -> None:
    found = dict(re.findall(r"#define (CAP_\w+)\s+(\d+)$", header("capability.h"), re.MULTILINE))
    known = {name: int(bit) for name, bit in found.items()}
    last = re.search(r"#define CAP_LAST_CAP\s+(\w+)", header("capability.h"))
    assert last is not None
    assert {name: bit for name, bit in capabilities.BIT.items() if name in known} == known
    assert capabilities.NAMES[known[last[1]]] == last[1]


def test_process_controls_match_the_kernel_header() -> None:
    found = dict(re.findall(r"#define (PR_\w+)\s+(\d+)", header("prctl.h")))
    ours = {name[1:]: value for name, value in vars(process).items() if name.startswith("_PR_")}
    assert ours
    assert ours == {name: int(found[name]) for name in ours}


def test_a_bit_that_is_no_flag_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid value"):
        MountAttr(0x1000)
