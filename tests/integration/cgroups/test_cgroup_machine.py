"""cgroup v2 with every controller, which a host with v1 hierarchies lacks, in a virtual machine."""

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.cgroups.machine import VIRTIOFSD, run_pytest

HERE = Path(__file__).parent
DIRECT = HERE.parent / "sandbox" / "direct"
TESTS = ("inside_systemd.py", "test_cgroup_limits_kernel.py", "test_cgroup_v2_only.py")

#: What has been seen elsewhere takes the machine, which is emulated, too long.
CHOSEN = "limits_kernel or v2_only or Controllers or verbs or users"
NOT_QUICK = "not one_after_the_other and not killed_shim"
QUICK = ("inside_v2.py", "test_limits.py", "test_pools.py", "test_v2_alone.py")

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        os.geteuid() != 0
        or os.uname().machine != "x86_64"
        or not shutil.which("qemu-system-x86_64")
        or not VIRTIOFSD.exists(),
        reason="needs root, QEMU and virtiofsd, on x86_64",
    ),
]


def test_the_drivers_keep_their_promises_where_v2_has_all_controllers() -> None:
    status, said = run_pytest("-k", CHOSEN, *(str(HERE / name) for name in TESTS))
    assert status == 0, said


def test_quick_sandboxes_start_by_recipes_there_within_their_limits() -> None:
    status, said = run_pytest("-k", NOT_QUICK, *(str(DIRECT / name) for name in QUICK))
    assert status == 0, said
